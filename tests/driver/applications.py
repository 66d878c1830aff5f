"""Small applications."""

from __future__ import annotations

import asyncio
from typing import Any

START = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(body(b"hello"))


class Greeter:
    """Says hello, and keeps the paths for which it was called."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        await hello(scope, receive, send)


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Never reads, never answers."""
    await asyncio.get_running_loop().create_future()


async def reader(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send(START)
    await send(body(b"%d" % size))


class Stepwise:
    """An application that the test drives: it does what is put into it, one thing at a time.

    ``done`` tells what each step gave, or the exception that it raised.
    """

    def __init__(self) -> None:
        self.scope: Any = None
        self.task: Any = None
        self.done: list[Any] = []
        self._steps: asyncio.Queue[Any] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.task = scope, asyncio.current_task()
        while True:
            step = await self._steps.get()
            if step is None:
                return
            try:
                self.done.append(await (receive() if step == "receive" else send(step)))
            except OSError as error:
                self.done.append(error)

    def start(self, *steps: Any) -> None:
        """Begin with ``steps``; the test lets the loop run."""
        for step in steps:
            self._steps.put_nowait(step)

    def finish(self) -> None:
        self._steps.put_nowait(None)
