"""Runs a block of Python: ``python_block.py FILE``, in a process of its own.

What is left out of a block is what its page has said before: an application, its scope, a
configuration. A block with an application, or that is a part of one, is served over TLS and asked.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import ssl
import sys
import types
from pathlib import Path
from typing import Any

import httpx
import trustme
from app import app as plain  # the sandbox's
from websockets.asyncio.client import connect

import h2asgi

SECONDS = 20.0
"""For what a block waits for; an event that it has made is set for it meanwhile."""


async def something_else() -> None:
    """Stand for the rest of a program."""


def namespace() -> dict[str, Any]:
    return {
        "__name__": "block",
        "app": plain,
        "asyncio": asyncio,
        "checksum": b"900150983cd24fb0d6963f7d28e17f72",
        "config": h2asgi.make_config(plain, port=0),
        "data": b"abc",
        "h2asgi": h2asgi,
        "something_else": something_else,
    }


def main(path: str) -> None:
    tree = ast.parse(Path(path).read_text("utf-8"), path)
    names = namespace()
    tests = [node.name for node in tree.body if getattr(node, "name", "").startswith("test_")]
    if _is_part_of_an_application(tree):
        asyncio.run(_ask(_application(tree, names, path), path))
        return
    code = compile(tree, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(_run(types.FunctionType(code, names)(), names))
    elif _needs_pytest(tree):
        import pytest

        sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", path]))
    else:
        exec(code, names)
    for name in tests:
        asyncio.run(names[name]())
    if any(getattr(node, "name", "") == "app" for node in tree.body):
        asyncio.run(_ask(names["app"], path))


def _needs_pytest(tree: ast.Module) -> bool:
    """Whether it has tests with fixtures, or ones that are not coroutines."""
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and (node.args.args or isinstance(node, ast.FunctionDef))
        for node in tree.body
    )


def _is_part_of_an_application(tree: ast.Module) -> bool:
    """Whether it sends without having said where."""
    return any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Await)
        and isinstance(node.value.value, ast.Call)
        and ast.unparse(node.value.value.func) == "send"
        for node in tree.body
    )


def _application(tree: ast.Module, names: dict[str, Any], path: str) -> Any:
    code = compile(tree, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kinds: list[str] = []

        async def noted(message: Any) -> None:
            kinds.append(message["type"])
            await send(message)

        await types.FunctionType(code, {**names, "scope": scope, "receive": receive,
                                        "send": noted})()  # fmt: skip
        if "http.response.start" not in kinds:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if "http.response.body" not in kinds:
            await send({"type": "http.response.body"})

    return app


async def _run(coroutine: Any, names: dict[str, Any]) -> None:
    """Await it, and set what it waits for."""
    task = asyncio.ensure_future(coroutine)
    async with asyncio.timeout(SECONDS):
        while not task.done():
            await asyncio.wait([task], timeout=0.2)
            for value in names.values():
                if isinstance(value, asyncio.Event):
                    value.set()
    await task


async def _ask(app: Any, path: str) -> None:
    """Serve an application over TLS, and ask for / over HTTP/2, or by a WebSocket."""
    raised: list[BaseException] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("blocks are no whole applications")
        try:
            await app(scope, receive, send)
        except BaseException as error:
            raised.append(error)
            raise

    source = Path(path).read_text("utf-8")
    context, certfile = _certificate(Path(path).parent)
    config = h2asgi.make_config(watched, host="127.0.0.1", port=0, certfile=certfile)
    async with asyncio.timeout(SECONDS), h2asgi.Server(watched, config) as server:
        host, port = server.addresses[0]
        if '"websocket"' in source:
            async with connect(f"wss://{host}:{port}/", ssl=context) as websocket:
                await websocket.send("hello")
                assert await websocket.recv() == "hello"
        else:
            async with httpx.AsyncClient(http2=True, verify=context) as client:
                response = await client.get(f"https://{host}:{port}/")
            left_out = any(line.strip().startswith("...") for line in source.splitlines())
            assert left_out or response.status_code < 500, response
    if raised:
        raise raised[0]


def _certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    authority = trustme.CA()
    file = folder / "served.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(file))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context, str(file)


if __name__ == "__main__":
    main(sys.argv[1])
