"""A FastAPI application that keeps notes in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, WebSocket


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, list[str]]]:
    yield {"notes": []}


app = FastAPI(lifespan=lifespan)


@app.post("/notes", status_code=201)
async def add(request: Request) -> int:
    notes: list[str] = request.state.notes
    notes.append((await request.body()).decode())
    return len(notes)


@app.get("/notes")
async def every(request: Request) -> dict[str, object]:
    return {"notes": request.state.notes, "http_version": request.scope["http_version"]}


@app.get("/broken")
async def broken() -> None:
    raise LookupError("no such note")


@app.websocket("/live")
async def live(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())
