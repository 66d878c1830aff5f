"""Whom the inspector answers: it shows private traffic to whoever it answers.

A page of another site can have a browser ask an address of this machine. It cannot read the
answer, unless its own name leads here by then (DNS rebinding); so names are checked, and
what the browser says of the page that asks.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


class Access:
    """Knows by which hosts it may be asked: addresses, localhost and ``names``.

    A page cannot make an address its own, and browsers look for localhost on this machine.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names | {"localhost"}

    def refusal(self, method: str, path: str, fields: dict[bytes, bytes]) -> str | None:
        """Say why a request is not answered; None if it is."""
        host = fields.get(b"host", b"").decode("latin-1")
        if not self._is_ours(host):
            return "the inspector is not asked for by this name: use its address, or localhost"
        origin = fields.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() != f"http://{host.lower()}":
            return "pages of other origins may not look at the inspector"
        if origin is None and method == "POST":
            return "a change has to say its origin"
        site = fields.get(b"sec-fetch-site", b"none")
        if path != "/" and site not in (b"same-origin", b"none"):
            return "pages of other sites may not look at the inspector"
        return None

    def _is_ours(self, authority: str) -> bool:
        try:
            host = urlsplit(f"//{authority}").hostname
        except ValueError:
            return False
        if not host or "@" in authority or "/" in authority:
            return False
        if host.lower() in self._names:
            return True
        try:
            ip_address(host)
        except ValueError:
            return False
        return True
