from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Request, get, head, post
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import UploadFile
from litestar.response import Response, Stream

from . import content, letters


async def start(app: Litestar) -> None:
    app.state.started = True


@get("/hello")
async def hello(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {"framework": "litestar", "http_version": request.scope["http_version"]}


@head("/hello")
async def hello_head() -> None:
    return None


@get("/items/{name:str}")
async def items(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return {"name": request.path_params["name"], "q": request.query_params.getall("q")}


@post("/form", status_code=200)
async def form(request: Request[Any, Any, Any]) -> dict[str, str]:
    return dict(await request.form())


@post("/upload", status_code=200)
async def upload(request: Request[Any, Any, Any]) -> dict[str, Any]:
    fields = await request.form()
    file = fields["file"]
    assert isinstance(file, UploadFile)
    data = await file.read()
    return {
        "note": fields["note"],
        "filename": file.filename,
        "size": len(data),
        "sha256": content.sha256(data),
    }


@post("/stream-up", status_code=200)
async def stream_up(request: Request[Any, Any, Any]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


@get("/stream-down")
async def stream_down(request: Request[Any, Any, Any]) -> Stream:
    count = int(request.query_params["count"])

    async def body() -> AsyncIterator[bytes]:
        for number in range(count):
            yield content.piece(number)

    return Stream(body(), media_type="application/octet-stream")


@get("/events")
async def events(request: Request[Any, Any, Any]) -> Stream:
    key = request.query_params["key"]

    async def body() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            letters.post(f"{key} ended")

    return Stream(body(), media_type="text/event-stream")


@get("/background")
async def background(request: Request[Any, Any, Any]) -> Response[str]:
    key = request.query_params["key"]

    async def task() -> None:
        await letters.arrival(f"{key} go on")
        letters.post(f"{key} done")

    return Response("accepted", media_type="text/plain", background=BackgroundTask(task))


@get("/wait")
async def wait(request: Request[Any, Any, Any]) -> str:
    key = request.query_params["key"]
    letters.post(f"{key} began")
    while (await request.receive())["type"] != "http.disconnect":
        pass
    letters.post(f"{key} ended")
    return "nobody reads this"


@get("/cookies")
async def cookies(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
    response = Response(dict(request.cookies))
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return response


@get("/error")
async def error() -> None:
    raise RuntimeError("an application's mistake")


@get("/state")
async def state(request: Request[Any, Any, Any]) -> dict[str, bool]:
    return {"started": request.app.state.started}


app = Litestar(
    on_startup=[start],
    route_handlers=[
        hello,
        hello_head,
        items,
        form,
        upload,
        stream_up,
        stream_down,
        events,
        background,
        wait,
        cookies,
        error,
        state,
    ],
)
