"""What is said of an exception that an application raised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from ..errors import ClientDisconnected

logger = logging.getLogger("h2asgi.error")

_MAX_CAUSES = 16
"""Links of an exception's chain to look at; a chain can be a circle."""


def log_exception(
    error: BaseException, request_line: str, ids: Mapping[str, object], *, disconnected: bool
) -> None:
    """Log once; what the client's leaving brought about is not the application's mistake."""
    if disconnected and _is_disconnect(error):
        logger.debug("%s: client disconnected", request_line, exc_info=error, extra=ids)
    elif disconnected and _follows_disconnect(error):
        # Frameworks put an exception of their own in place of the OSError.
        # A mistake in the clean-up looks the same, so it is not kept secret.
        # As text: a record that is kept must not keep the frames, and with
        # them the application's generators, alive.
        logger.info("%s: client disconnected: %s", request_line, ascii(error), extra=ids)
    else:
        logger.error("%s: exception in the application", request_line, exc_info=error, extra=ids)


def _is_disconnect(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_disconnect, error.exceptions))
    return isinstance(error, (ClientDisconnected, asyncio.CancelledError))


def _follows_disconnect(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_follows_disconnect, error.exceptions))
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if cause is None:
            return False
        if _is_disconnect(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
