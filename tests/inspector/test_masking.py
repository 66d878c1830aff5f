"""What is secret, what is not, and how much is kept."""

from __future__ import annotations

import pytest

from h2asgi.inspector.masking import (
    MASK,
    MAX_FIELDS,
    MAX_SECTION,
    MAX_TARGET,
    fields,
    is_secret,
    target,
)


@pytest.mark.parametrize(
    "name",
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "Set-Cookie", "x-api-key",
     "apikey", "api_key", "x-auth-token", "x-csrf-token", "x-amz-security-token", "x-secret",
     "client_secret", "password", "db-passwd", "session", "x-session-id", "jwt", "x-signature",
     "x-auth", "key", "access_token", "code", "sig", "x-amz-credential"],
)  # fmt: skip
def test_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [":authority", ":path", ":status", "accept", "content-type", "etag", "user-agent", "host",
     "sec-websocket-key", "www-authenticate", "keep-alive", "x-monkey", "author", "cache-control",
     "content-encoding", "x-request-id", "sec-ch-ua"],
)  # fmt: skip
def test_not_secret(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (b"/a?b=c", "/a?b=c"),
        (b"/a?token=x&b=c", f"/a?token={MASK}&b=c"),
        (b"/a?b=c;api_key=x", f"/a?b=c;api_key={MASK}"),
        (b"/a#access_token=x", f"/a#access_token={MASK}"),
        (b"/a?token=", f"/a?token={MASK}"),
        (b"/token=x", "/token=x"),
        (b"*", "*"),
    ],
)
def test_targets(given: bytes, shown: str) -> None:
    assert target(given) == shown


def test_sections_are_bounded() -> None:
    assert len(target(b"/" + b"a" * 100_000)) <= MAX_TARGET + 1
    many = fields([(b"a%d" % n, b"b") for n in range(10 * MAX_FIELDS)])
    assert len(many) == MAX_FIELDS + 1
    assert many[-1] == ("…", f"{9 * MAX_FIELDS} more fields")
    long = fields([(b"a", b"x" * MAX_SECTION), (b"b", b"y" * MAX_SECTION)])
    assert sum(len(value) for _, value in long) < MAX_SECTION + 100
