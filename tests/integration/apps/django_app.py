from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    LOGGING_CONFIG=None,
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import (  # noqa: E402
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path  # noqa: E402

from . import content, letters  # noqa: E402


async def hello(request: HttpRequest) -> HttpResponse:
    version = request.scope["http_version"]  # type: ignore[attr-defined]
    return JsonResponse({"framework": "django", "http_version": version})


async def items(request: HttpRequest, name: str) -> HttpResponse:
    return JsonResponse({"name": name, "q": request.GET.getlist("q")})


async def form(request: HttpRequest) -> HttpResponse:
    return JsonResponse(request.POST.dict())


async def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    data = file.read()
    return JsonResponse(
        {
            "note": request.POST["note"],
            "filename": file.name,
            "size": len(data),
            "sha256": content.sha256(data),
        }
    )


async def stream_up(request: HttpRequest) -> HttpResponse:
    digest, size = hashlib.sha256(), 0
    while chunk := request.read(content.PIECE_SIZE):
        digest.update(chunk)
        size += len(chunk)
    return JsonResponse({"size": size, "sha256": digest.hexdigest()})


async def stream_down(request: HttpRequest) -> HttpResponseBase:
    async def body() -> AsyncIterator[bytes]:
        for number in range(int(request.GET["count"])):
            yield content.piece(number)

    return StreamingHttpResponse(body(), content_type="application/octet-stream")


async def events(request: HttpRequest) -> HttpResponseBase:
    key = request.GET["key"]

    async def body() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            letters.post(f"{key} ended")

    return StreamingHttpResponse(body(), content_type="text/event-stream")


_tasks: set[asyncio.Task[None]] = set()


async def background(request: HttpRequest) -> HttpResponse:
    key = request.GET["key"]

    async def task() -> None:
        await letters.arrival(f"{key} go on")
        letters.post(f"{key} done")

    running = asyncio.create_task(task())
    _tasks.add(running)
    running.add_done_callback(_tasks.discard)
    return HttpResponse("accepted")


async def wait(request: HttpRequest) -> HttpResponse:
    key = request.GET["key"]
    letters.post(f"{key} began")
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        letters.post(f"{key} ended")
    return HttpResponse("nobody reads this")


async def cookies(request: HttpRequest) -> HttpResponse:
    response = JsonResponse(request.COOKIES)
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return response


async def error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("an application's mistake")


urlpatterns = [
    path("hello", hello),
    path("items/<str:name>", items),
    path("form", form),
    path("upload", upload),
    path("stream-up", stream_up),
    path("stream-down", stream_down),
    path("events", events),
    path("background", background),
    path("wait", wait),
    path("cookies", cookies),
    path("error", error),
]


class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        await self.accept(subprotocol="chat")
        version = self.scope["http_version"]
        await self.send(text_data=json.dumps({"http_version": version}))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)

    async def disconnect(self, code: int) -> None:
        key = parse_qs(self.scope["query_string"].decode())["key"][0]
        letters.post(f"{key} ended", code)


class Denied(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        await self.close()


app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws", Echo.as_asgi()), path("ws-denied", Denied.as_asgi())]),
    }
)
