"""Which engine a setting chooses, with and without the native libraries."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator

import pytest

from h2asgi.config import HTTP1Config, HTTP2Config, WebSocketConfig
from h2asgi.errors import ConfigurationError
from h2asgi.protocol import engines

NATIVE_ENGINES = (
    "h2asgi.protocol.http1.httptools_engine",
    "h2asgi.protocol.http2.ngh2_engine",
    "h2asgi.protocol.websocket.websockets_codec",
)
WSPROTO = WebSocketConfig(engine="wsproto")


pytestmark = pytest.mark.interpreted


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The choice is made once in a process; here it is made for every test."""
    for name in NATIVE_ENGINES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    engines._choose.cache_clear()
    yield
    engines._choose.cache_clear()


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ngh2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Hidden("ngh2"), *sys.meta_path])


@pytest.fixture
def too_new(monkeypatch: pytest.MonkeyPatch) -> None:
    class NextVersion(types.ModuleType):
        __version__ = "0.4.0"

        def __getattr__(self, name: str) -> type[Exception]:
            if name.startswith("__"):
                raise AttributeError(name)
            return Exception

    monkeypatch.setitem(sys.modules, "ngh2", NextVersion("ngh2"))


@pytest.fixture
def incompatible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ngh2", types.ModuleType("ngh2"))


class Hidden:
    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_auto_takes_the_native_engine() -> None:
    try:
        import ngh2
    except ImportError:
        if os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1":
            raise
        pytest.skip("ngh2 is not installed")
    assert ngh2.__version__.startswith("0.3.")
    assert engines.http2_engine(HTTP2Config()).name == "ngh2"
    assert engines.engine_notes(HTTP1Config(engine="h11"), HTTP2Config(), WSPROTO) == []


def test_h2_can_be_asked_for() -> None:
    assert engines.http2_engine(HTTP2Config(engine="h2")).name == "h2"
    assert engines.engine_notes(HTTP1Config(engine="h11"), HTTP2Config(engine="h2"), WSPROTO) == []


@pytest.mark.usefixtures("missing")
def test_auto_falls_back_in_silence_when_nothing_else_is_installed() -> None:
    assert engines.http2_engine(HTTP2Config()).name == "h2"
    assert engines.engine_notes(HTTP1Config(engine="h11"), HTTP2Config(), WSPROTO) == []


@pytest.mark.usefixtures("missing")
def test_a_missing_engine_that_was_asked_for_is_the_operators_mistake() -> None:
    with pytest.raises(ConfigurationError) as raised:
        engines.http2_engine(HTTP2Config(engine="ngh2"))
    assert str(raised.value) == "--http2-engine ngh2 needs ngh2: pip install 'h2asgi[fast]'"


@pytest.mark.usefixtures("too_new")
def test_auto_passes_over_a_version_that_was_not_tried_and_says_so() -> None:
    assert engines.http2_engine(HTTP2Config()).name == "h2"
    (note,) = engines.engine_notes(HTTP1Config(engine="h11"), HTTP2Config(), WSPROTO)
    assert note == (
        "the engine ngh2 cannot be used: ngh2 0.4.0 is installed, and only 0.3 is known to fit"
    )
    assert (
        engines.engine_notes(HTTP1Config(engine="h11"), HTTP2Config(enabled=False), WSPROTO) == []
    )


@pytest.mark.usefixtures("incompatible")
def test_auto_passes_over_a_library_that_cannot_be_imported() -> None:
    assert engines.http2_engine(HTTP2Config()).name == "h2"
    (note,) = engines.engine_notes(HTTP1Config(engine="h11"), HTTP2Config(), WSPROTO)
    assert note.startswith("the engine ngh2 cannot be used: cannot import name")


@pytest.mark.usefixtures("too_new")
def test_an_unusable_engine_that_was_asked_for_is_the_operators_mistake() -> None:
    with pytest.raises(ConfigurationError, match=r"needs ngh2 \(ngh2 0\.4\.0 is installed, .*\):"):
        engines.http2_engine(HTTP2Config(engine="ngh2"))


@pytest.fixture
def without_httptools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "httptools", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Hidden("httptools"), *sys.meta_path])


@pytest.mark.usefixtures("without_httptools")
@pytest.mark.parametrize("choice", ["auto", "h11"])
def test_without_httptools_there_is_h11(choice: str) -> None:
    assert engines.http1_engine(HTTP1Config(engine=choice)).name == "h11"


@pytest.mark.usefixtures("without_httptools")
def test_httptools_asked_for_but_missing_is_an_operators_error() -> None:
    with pytest.raises(ConfigurationError) as raised:
        engines.http1_engine(HTTP1Config(engine="httptools"))
    assert str(raised.value) == (
        "--http1-engine httptools needs httptools: pip install 'h2asgi[fast]'"
    )


@pytest.mark.parametrize("choice", ["auto", "httptools"])
def test_httptools_is_taken_when_it_is_installed(choice: str) -> None:
    pytest.importorskip("httptools")
    assert engines.http1_engine(HTTP1Config(engine=choice)).name == "httptools"


def test_h11_can_be_chosen() -> None:
    assert engines.http1_engine(HTTP1Config(engine="h11")).name == "h11"


@pytest.fixture
def without_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "websockets", raising=False)
    monkeypatch.delitem(sys.modules, "websockets.speedups", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Hidden("websockets"), *sys.meta_path])


@pytest.mark.usefixtures("without_websockets")
@pytest.mark.parametrize("choice", ["auto", "wsproto"])
def test_without_websockets_there_is_wsproto(choice: str) -> None:
    config = WebSocketConfig(engine=choice)
    assert engines.websocket_codec(config).name == "wsproto"
    http1, http2 = HTTP1Config(engine="h11"), HTTP2Config(engine="h2")
    assert engines.engine_notes(http1, http2, config) == []


@pytest.mark.usefixtures("without_websockets")
def test_websockets_asked_for_but_missing_is_an_operators_error() -> None:
    with pytest.raises(ConfigurationError) as raised:
        engines.websocket_codec(WebSocketConfig(engine="websockets"))
    assert str(raised.value) == (
        "--ws-engine websockets needs websockets: pip install 'h2asgi[fast]'"
    )


def test_websockets_without_its_native_part_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("websockets")
    monkeypatch.delitem(sys.modules, "websockets.speedups", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Hidden("websockets.speedups"), *sys.meta_path])
    assert engines.websocket_codec(WebSocketConfig()).name == "wsproto"
    http1, http2 = HTTP1Config(engine="h11"), HTTP2Config(engine="h2")
    (note,) = engines.engine_notes(http1, http2, WebSocketConfig())
    assert note.startswith("the engine websockets cannot be used: ")
    assert engines.engine_notes(http1, http2, WebSocketConfig(enabled=False)) == []


@pytest.mark.parametrize("choice", ["auto", "websockets"])
def test_websockets_is_taken_when_it_is_installed(choice: str) -> None:
    pytest.importorskip("websockets.speedups")
    assert engines.websocket_codec(WebSocketConfig(engine=choice)).name == "websockets"
