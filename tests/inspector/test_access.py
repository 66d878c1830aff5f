"""Who may look: Host and Origin are checked, since the inspector shows private traffic."""

from __future__ import annotations

import pytest

from h2asgi.inspector.access import Access

ACCESS = Access(frozenset(("dev.example",)))


def ask(method: str = "GET", path: str = "/api/events", **fields: str) -> str | None:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    return ACCESS.refusal(method, path, named)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8943", "127.0.0.1", "localhost:8943", "LOCALHOST", "[::1]:8943", "192.0.2.1:1",
     "dev.example:8943"],
)  # fmt: skip
def test_addresses_localhost_and_the_operator_s_name(host: str) -> None:
    assert ask(host=host) is None
    assert ask(host=host, origin=f"http://{host}") is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8943",
     "127.0.0.1@evil.example",
     "evil.example:8943", "", "127.0.0.1:8943/evil", "[::1", "[evil]:80", "localhost."],
)  # fmt: skip
def test_a_name_that_somebody_had_lead_here(host: str) -> None:
    """DNS rebinding: the page's own name, and this machine's address."""
    assert "name" in (ask(host=host) or "")
    assert "name" in (ask(path="/", host=host) or "")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://127.0.0.1:8943", "http://127.0.0.1:9", "null", ""],
)
def test_pages_of_other_origins(origin: str) -> None:
    assert ask(host="127.0.0.1:8943", origin=origin) is not None


def test_what_browsers_say_of_the_page_that_asks() -> None:
    for site in ("cross-site", "same-site"):
        assert ask(host="localhost", sec_fetch_site=site) is not None
        assert ask(path="/api/requests.har", host="localhost", sec_fetch_site=site) is not None
        assert ask(path="/", host="localhost", sec_fetch_site=site) is None, "a link leads there"
    assert ask(host="localhost", sec_fetch_site="same-origin") is None


def test_a_change_says_its_origin() -> None:
    assert ask("POST", "/api/clear", host="localhost:1") is not None
    assert ask("POST", "/api/clear", host="localhost:1", origin="http://localhost:1") is None
