"""One JSON endpoint in FastAPI."""

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Item(BaseModel):
    name: str
    price: float
    tags: list[str]


@app.get("/")
async def root() -> str:
    return "Hello, world!"


@app.get("/items/{number}")
async def item(number: int, q: str = "") -> Item:
    return Item(name=f"item {number} {q}", price=9.99, tags=["a", "b", "c"])
