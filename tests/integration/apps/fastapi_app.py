from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import (
    BackgroundTasks,
    FastAPI,
    File,
    Form,
    Query,
    Request,
    Response,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import StreamingResponse

from . import content, letters


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    yield {"started": True}


app = FastAPI(lifespan=lifespan)


@app.api_route("/hello", methods=["GET", "HEAD"])
async def hello(request: Request) -> dict[str, str]:
    return {"framework": "fastapi", "http_version": request.scope["http_version"]}


@app.get("/items/{name}")
async def items(name: str, q: Annotated[list[str], Query()]) -> dict[str, Any]:
    return {"name": name, "q": q}


@app.post("/form")
async def form(first: Annotated[str, Form()], second: Annotated[str, Form()]) -> dict[str, str]:
    return {"first": first, "second": second}


@app.post("/upload")
async def upload(
    note: Annotated[str, Form()], file: Annotated[UploadFile, File()]
) -> dict[str, Any]:
    data = await file.read()
    digest = content.sha256(data)
    return {"note": note, "filename": file.filename, "size": len(data), "sha256": digest}


@app.post("/stream-up")
async def stream_up(request: Request) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


@app.get("/stream-down")
async def stream_down(count: int) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for number in range(count):
            yield content.piece(number)

    return StreamingResponse(body(), media_type="application/octet-stream")


@app.get("/events")
async def events(key: str) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            letters.post(f"{key} ended")

    return StreamingResponse(body(), media_type="text/event-stream")


@app.get("/background")
async def background(key: str, tasks: BackgroundTasks) -> str:
    async def task() -> None:
        await letters.arrival(f"{key} go on")
        letters.post(f"{key} done")

    tasks.add_task(task)
    return "accepted"


@app.get("/wait")
async def wait(request: Request, key: str) -> str:
    letters.post(f"{key} began")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    letters.post(f"{key} ended")
    return "nobody reads this"


@app.get("/cookies")
async def cookies(request: Request, response: Response) -> dict[str, str]:
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return request.cookies


@app.get("/error")
async def error() -> None:
    raise RuntimeError("an application's mistake")


@app.get("/state")
async def state(request: Request) -> dict[str, bool]:
    return {"started": request.state.started}


@app.websocket("/ws")
async def websocket(socket: WebSocket, key: str) -> None:
    await socket.accept(subprotocol="chat")
    await socket.send_json({"http_version": socket.scope["http_version"]})
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect as end:
        letters.post(f"{key} ended", end.code)


@app.websocket("/ws-denied")
async def denied(socket: WebSocket) -> None:
    await socket.close()
