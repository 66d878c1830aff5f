"""An application whose process is replaced under load.

It answers any request with the number of its process, a moment after it has appended
"{query} {process}" to the file that BEGUN_FILE names: so who asks can tell, also of a
request that got no answer, whether and where it was begun.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

WORK = 0.005
"""Seconds that a request takes, so that there are always some in flight."""

_begun = os.open(os.environ["BEGUN_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    os.write(_begun, b"%s %d\n" % (scope["query_string"], os.getpid()))
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(WORK)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
