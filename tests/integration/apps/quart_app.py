from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, Response, abort, jsonify, request, websocket

from . import content, letters

app = Quart(__name__)
started = False


@app.before_serving
async def start() -> None:
    global started
    started = True


@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"framework": "quart", "http_version": request.http_version}


@app.get("/items/<name>")
async def items(name: str) -> dict[str, Any]:
    return {"name": name, "q": request.args.getlist("q")}


@app.post("/form")
async def form() -> dict[str, str]:
    return dict(await request.form)


@app.post("/upload")
async def upload() -> dict[str, Any]:
    fields, files = await request.form, await request.files
    data = files["file"].read()
    return {
        "note": fields["note"],
        "filename": files["file"].filename,
        "size": len(data),
        "sha256": content.sha256(data),
    }


@app.post("/stream-up")
async def stream_up() -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    async for chunk in request.body:
        digest.update(chunk)
        size += len(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


@app.get("/stream-down")
async def stream_down() -> Response:
    count = int(request.args["count"])

    async def body() -> AsyncIterator[bytes]:
        for number in range(count):
            yield content.piece(number)

    return Response(body(), content_type="application/octet-stream")


@app.get("/events")
async def events() -> Response:
    key = request.args["key"]

    async def body() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            letters.post(f"{key} ended")

    response = Response(body(), content_type="text/event-stream")
    response.timeout = None
    return response


@app.get("/background")
async def background() -> str:
    key = request.args["key"]

    async def task() -> None:
        await letters.arrival(f"{key} go on")
        letters.post(f"{key} done")

    app.add_background_task(task)
    return "accepted"


@app.get("/wait")
async def wait() -> str:
    key = request.args["key"]
    letters.post(f"{key} began")
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        letters.post(f"{key} ended")
    return "nobody reads this"


@app.get("/cookies")
async def cookies() -> Response:
    response = jsonify(request.cookies)
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return response


@app.get("/error")
async def error() -> str:
    raise RuntimeError("an application's mistake")


@app.get("/state")
async def state() -> dict[str, bool]:
    return {"started": started}


@app.websocket("/ws")
async def echo() -> None:
    key = websocket.args["key"]
    await websocket.accept(subprotocol="chat")
    await websocket.send_json({"http_version": websocket.http_version})
    try:
        while True:
            await websocket.send(await websocket.receive())
    except asyncio.CancelledError:
        letters.post(f"{key} ended", None)  # Quart does not say with which code
        raise


@app.websocket("/ws-denied")
async def denied() -> None:
    abort(403)
