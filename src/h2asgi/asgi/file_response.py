"""Files as bodies of responses: ``http.response.pathsend`` and ``http.response.zerocopysend``."""

from __future__ import annotations

import reprlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from ..errors import ClientDisconnected, IllegalMessage
from .files import FIRST_PIECE, FileReader, Location, part_of_file, whole_file
from .response import BODY, OVER, START_HELD, Response

T = TypeVar("T")


class FileResponse(Response):
    """A response whose body, or part of it, may be a file."""

    __slots__ = ()

    def _take_extension(self, kind: Any, message: Mapping[str, Any]) -> Awaitable[None]:
        if kind == "http.response.pathsend":
            return self._send_path(message)
        if kind == "http.response.zerocopysend":
            return self._send_open_file(message)
        return super()._take_extension(kind, message)

    def _send_path(self, message: Mapping[str, Any]) -> Awaitable[None]:
        path = message.get("path")
        if self._state != START_HELD:
            raise self._illegal("'http.response.pathsend' before the start or behind a body")
        if not isinstance(path, str):
            raise IllegalMessage(f"path must be str, not {type(path).__name__}")
        return self._send_file(reprlib.repr(path), partial(whole_file, path), False)

    def _send_open_file(self, message: Mapping[str, Any]) -> Awaitable[None]:
        if self._state not in (START_HELD, BODY):
            raise self._illegal("'http.response.zerocopysend' before the start or behind the body")
        file = message.get("file")
        offset, count = message.get("offset"), message.get("count")
        for value in (offset, count):
            if not (value is None or (isinstance(value, int) and value >= 0)):
                raise self._illegal(f"neither an offset nor a count: {reprlib.repr(value)}")
        if not (isinstance(file, int) or hasattr(file, "fileno")):
            raise self._illegal(f"file must have a descriptor: {reprlib.repr(file)}")
        locate = partial(part_of_file, file, offset, count)
        return self._send_file("the file", locate, bool(message.get("more_body", False)))

    async def _send_file(self, name: str, locate: Callable[[], Location], more_body: bool) -> None:
        """Send a file as a body; nothing is written before it is open and of the right length."""
        reader = FileReader()
        no_content = self._no_content
        self._sending_file = True
        try:
            await self._reading(name, reader.open(locate, 0 if no_content else FIRST_PIECE))
            self._judge_length(reader.size, more_body)
            while reader.left and not no_content:
                data = await self._reading(name, reader.read())
                more = more_body or reader.left > 0
                await self._send_body({"body": data, "more_body": more})
            if no_content or not reader.size:
                await self._send_body({"more_body": more_body})
        finally:
            self._sending_file = False
            reader.close()
            if self._state == OVER:
                self._finish()

    async def _reading(self, name: str, work: Awaitable[T]) -> T:
        """Await work on a file, and see that what comes of it is still wanted."""
        try:
            result = await work
        except (OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error  # without the path once more
            raise self._illegal(f"{name}: {reason}") from error
        if self._disconnected:
            raise ClientDisconnected("the client is gone")
        if self._state == OVER:
            raise IllegalMessage("the response was over before its file was sent")
        return result

    def _judge_length(self, size: int, more_body: bool) -> None:
        """Compare what a file has with the content-length, which it tells if it is all there is."""
        left = self._content_left
        if left is not None:
            if size > left or (size < left and not more_body):
                raise self._wrong_length(left - size)
        elif (
            self._state == START_HELD
            and not (more_body or self._no_content)
            and self._trailers is None
        ):
            self._held_fields.append((b"content-length", b"%d" % size))
            self._content_left = size
