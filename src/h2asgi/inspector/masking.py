"""What is secret in a request or response, so that it is neither kept, shown nor exported."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

MASK: Final = "[masked]"

MAX_FIELDS: Final = 100
"""Of one field section: more than honest ones have, and what a row of details is made for."""

MAX_SECTION: Final = 8 * 1024
"""Octets of one field section. With ``MAX_STREAMS`` it bounds what is kept to some MiB."""

MAX_TARGET: Final = 2048

_SECRET: Final = frozenset(
    ("authorization", "proxy-authorization", "authentication-info", "cookie", "cookie2",
     "set-cookie", "set-cookie2", "proxy-authentication-info")
)  # fmt: skip
_OPEN: Final = frozenset(("sec-websocket-key", "surrogate-key", "authority", "www-authenticate"))
"""Names that look secret and are not."""

_looks_secret = re.compile(
    r"token|secret|passw|pwd|api-?_?key|credential|session|signature|jwt|bearer|csrf|xsrf|otp"
    r"|(?:^|[-_.])(?:key|keys|auth|pin|sid|sig|code)(?:$|[-_.])"
).search

_parameter = re.compile(r"([?&;#])([^=&;#?]+)=([^&;#]*)")

_WITH_TARGETS: Final = frozenset(("referer", "location", "content-location", ":path"))

Fields = list[tuple[str, str]]


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Whether the value of a field or parameter of this name is to be masked."""
    name = name.lower()
    return name in _SECRET or (name not in _OPEN and _looks_secret(name) is not None)


def target(text: bytes) -> str:
    """Give a target without the values of parameters whose names look secret."""
    return _masked_target(text.decode("latin-1"))


def _masked_target(text: str) -> str:
    if "=" in text:
        text = _parameter.sub(_masked_parameter, text)
    return shortened(text, MAX_TARGET)


def _masked_parameter(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    return f"{mark}{name}={MASK if is_secret(name) else value}"


def fields(section: list[tuple[bytes, bytes]]) -> Fields:
    """Give a field section as it may be shown: masked, and within its bounds."""
    shown: Fields = []
    left = MAX_SECTION
    for name, value in section:
        if len(shown) == MAX_FIELDS or left <= 0:
            shown.append(("…", f"{len(section) - len(shown)} more fields"))
            break
        text = name.decode("latin-1")
        if is_secret(text):
            content = MASK
        elif text in _WITH_TARGETS:
            content = _masked_target(value.decode("latin-1"))
        else:
            content = shortened(value.decode("latin-1"), left)
        left -= len(name) + len(content)
        shown.append((shortened(text, 256), content))
    return shown


def shortened(text: str, size: int) -> str:
    """Give the beginning of a text, and a sign if that is not all."""
    return text if len(text) <= size else text[:size] + "…"
