"""What asyncio gets wrong about a peer's network is no error either (field note 5)."""

from __future__ import annotations

import asyncio

import pytest

from h2asgi import process

TWICE = (
    "Exception in callback _SelectorSocketTransport._call_connection_lost(ConnectionRes...peer'))"
)


@pytest.mark.parametrize(
    ("message", "error", "level"),
    [
        (TWICE, AttributeError("'NoneType' object has no attribute 'close'"), "DEBUG"),
        (TWICE, RuntimeError("ours"), "ERROR"),
        ("Exception in callback ours()", AttributeError("ours"), "ERROR"),
    ],
)
def test_connection_that_asyncio_loses_twice(caplog, message, error, level):
    """When a reset is met while writing resumes, asyncio's transport tells of the loss, and then
    once more without protocol and socket."""
    loop = asyncio.new_event_loop()
    with caplog.at_level("DEBUG", "h2asgi"):
        process.log_loop_error(loop, {"message": message, "exception": error})
    loop.close()
    assert [record.levelname for record in caplog.records] == [level]
