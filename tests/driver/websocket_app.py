"""The application's end of a WebSocket, driven by a test, and the messages of ASGI."""

from __future__ import annotations

from applications import Stepwise

ACCEPTANCE = {"type": "websocket.accept"}
CONNECT = {"type": "websocket.connect"}


def text(data):
    return {"type": "websocket.send", "text": data}


def received(data):
    return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}


def disconnect(code, reason=""):
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def code(number):
    return number.to_bytes(2, "big")


class App(Stepwise):
    """Driven by the test; a WebSocket that it has accepted before."""

    def __init__(self, *steps):
        super().__init__()
        self.start("receive", ACCEPTANCE, *steps)

    def receive(self, count=1):
        """Receive so many messages; give those there are."""
        before = len(self.done)
        self.start(*["receive"] * count)
        self.loop.settle(count + 20)
        return self.done[before:]

    def send(self, *messages):
        before = len(self.done)
        self.start(*messages)
        self.loop.settle()
        return self.done[before:]
