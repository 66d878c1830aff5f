"""Which engine a setting chooses, with and without what it needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from h2asgi.config import HTTP1Config
from h2asgi.errors import ConfigurationError
from h2asgi.protocol import engines
from h2asgi.protocol.engines import http1_engine


@pytest.fixture
def without_httptools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "httptools", None)
    monkeypatch.delitem(sys.modules, "h2asgi.protocol.http1.httptools_engine", raising=False)
    engines._httptools_engine.cache_clear()
    yield
    engines._httptools_engine.cache_clear()


@pytest.mark.usefixtures("without_httptools")
@pytest.mark.parametrize("choice", ["auto", "h11"])
def test_without_httptools_there_is_h11(choice: str) -> None:
    assert http1_engine(HTTP1Config(engine=choice)).name == "h11"


@pytest.mark.usefixtures("without_httptools")
def test_httptools_asked_for_but_missing_is_an_operators_error() -> None:
    with pytest.raises(ConfigurationError) as raised:
        http1_engine(HTTP1Config(engine="httptools"))
    assert str(raised.value) == (
        "--http1-engine httptools needs httptools: pip install 'h2asgi[fast]'"
    )


@pytest.mark.parametrize("choice", ["auto", "httptools"])
def test_httptools_is_taken_when_it_is_installed(choice: str) -> None:
    pytest.importorskip("httptools")
    assert http1_engine(HTTP1Config(engine=choice)).name == "httptools"


def test_h11_can_be_chosen() -> None:
    assert http1_engine(HTTP1Config(engine="h11")).name == "h11"
