"""FastAPI, Starlette, Django, Quart and Litestar: what a request says and what it is answered."""

from __future__ import annotations

import httpx
import pytest
from serving import BackgroundServer


def test_the_application_sees_the_protocol_that_was_spoken(
    framework: BackgroundServer, client: httpx.Client, protocol: str, request: pytest.FixtureRequest
) -> None:
    response = client.get("/hello")
    assert response.status_code == 200
    assert response.http_version == protocol
    name = request.node.callspec.params["framework"].lower()
    assert response.json() == {"framework": name, "http_version": protocol.removeprefix("HTTP/")}


def test_path_and_query_arrive_decoded(client: httpx.Client) -> None:
    response = client.get("/items/gr%C3%BC%C3%9Fe%20%26%20%E2%98%83?q=a%2Bb&q=%C3%A9+%3D")
    assert response.status_code == 200
    assert response.json() == {"name": "grüße & ☃", "q": ["a+b", "é ="]}


def test_head_has_no_body_and_leaves_the_connection_usable(client: httpx.Client) -> None:
    """RFC 9110 section 9.3.2."""
    for _ in range(3):
        response = client.head("/hello")
        assert response.status_code == 200
        assert response.content == b""
    assert client.get("/hello").json()["http_version"]


def test_unknown_path_is_404(client: httpx.Client) -> None:
    assert client.get("/nowhere").status_code == 404


def test_an_exception_is_500_and_leaves_the_connection_usable(
    framework: BackgroundServer, client: httpx.Client
) -> None:
    response = client.get("/error")
    assert response.status_code == 500
    # By the time of the next answer whatever follows the 500 has been logged.
    assert client.get("/hello").status_code == 200
    # Some frameworks raise it again, for the server to log; that is done once.
    assert len(framework.errors) <= 1
    assert all("an application's mistake" in line for line in framework.errors)
    framework.errors.clear()


def test_two_set_cookie_fields_stay_two(client: httpx.Client) -> None:
    response = client.get("/cookies")
    values = response.headers.get_list("set-cookie")
    assert [value.partition(";")[0] for value in values] == ["one=1", "two=2"]


def test_cookies_reach_the_application(
    framework: BackgroundServer, client: httpx.Client, protocol: str
) -> None:
    """Field note 16: HTTP/2 allows one field a cookie (RFC 9113 section 8.2.3)."""
    fields = [("cookie", "a=1; b=2"), ("cookie", "c=3")]
    if protocol == "HTTP/1.1":
        fields = [("cookie", "a=1; b=2; c=3")]
    response = client.get("/cookies", headers=fields)
    assert response.json() == {"a": "1", "b": "2", "c": "3"}


def test_what_startup_made_is_there(client: httpx.Client, request: pytest.FixtureRequest) -> None:
    response = client.get("/state")
    if request.node.callspec.params["framework"] == "Django":
        assert response.status_code == 404  # it has no lifespan, which is no reason not to serve
    else:
        assert response.json() == {"started": True}
