from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from . import content, letters


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
    yield {"started": True}


async def hello(request: Request) -> Response:
    return JSONResponse({"framework": "starlette", "http_version": request.scope["http_version"]})


async def items(request: Request) -> Response:
    name = request.path_params["name"]
    return JSONResponse({"name": name, "q": request.query_params.getlist("q")})


async def form(request: Request) -> Response:
    async with request.form() as fields:
        return JSONResponse(dict(fields.multi_items()))


async def upload(request: Request) -> Response:
    async with request.form() as fields:
        file = fields["file"]
        assert isinstance(file, UploadFile)
        data = await file.read()
        return JSONResponse(
            {
                "note": fields["note"],
                "filename": file.filename,
                "size": len(data),
                "sha256": content.sha256(data),
            }
        )


async def stream_up(request: Request) -> Response:
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return JSONResponse({"size": size, "sha256": digest.hexdigest()})


async def stream_down(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        for number in range(int(request.query_params["count"])):
            yield content.piece(number)

    return StreamingResponse(body(), media_type="application/octet-stream")


async def events(request: Request) -> Response:
    key = request.query_params["key"]

    async def body() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            letters.post(f"{key} ended")

    return StreamingResponse(body(), media_type="text/event-stream")


async def background(request: Request) -> Response:
    key = request.query_params["key"]

    async def task() -> None:
        await letters.arrival(f"{key} go on")
        letters.post(f"{key} done")

    return PlainTextResponse("accepted", background=BackgroundTask(task))


async def wait(request: Request) -> Response:
    key = request.query_params["key"]
    letters.post(f"{key} began")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    letters.post(f"{key} ended")
    return PlainTextResponse("nobody reads this")


async def cookies(request: Request) -> Response:
    response = JSONResponse(request.cookies)
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return response


async def error(request: Request) -> Response:
    raise RuntimeError("an application's mistake")


async def state(request: Request) -> Response:
    return JSONResponse({"started": request.state.started})


async def websocket(socket: WebSocket) -> None:
    await socket.accept(subprotocol="chat")
    await socket.send_json({"http_version": socket.scope["http_version"]})
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect as end:
        letters.post(f"{socket.query_params['key']} ended", end.code)


async def denied(socket: WebSocket) -> None:
    await socket.close()


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/hello", hello),
        Route("/items/{name}", items),
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream-up", stream_up, methods=["POST"]),
        Route("/stream-down", stream_down),
        Route("/events", events),
        Route("/background", background),
        Route("/wait", wait),
        Route("/cookies", cookies),
        Route("/error", error),
        Route("/state", state),
        WebSocketRoute("/ws", websocket),
        WebSocketRoute("/ws-denied", denied),
    ],
)
