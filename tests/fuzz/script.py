"""Reading an input as the decisions of a peer: a fuzzer that flips octets then flips decisions."""

from __future__ import annotations

from collections.abc import Sequence

Fields = list[tuple[bytes, bytes]]

COMMON = 0x80
"""From here on the length of a name stands for a common name, which is rarely found by chance."""


class Script:
    """An input that is taken from its front; at its end it gives zeros and nothing."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._place = 0

    def __bool__(self) -> bool:
        return self._place < len(self._octets)

    def octet(self) -> int:
        self._place += 1
        return self._octets[self._place - 1] if self._place <= len(self._octets) else 0

    def octets(self, count: int) -> bytes:
        self._place += count
        return self._octets[self._place - count : self._place]

    def rest(self) -> bytes:
        return self.octets(len(self._octets))

    def text(self, common: Sequence[bytes] = ()) -> bytes:
        """Octets behind their count, or one of those that are common."""
        count = self.octet()
        if common and count >= COMMON:
            return common[count % len(common)]
        return self.octets(count)

    def fields(self, names: Sequence[bytes]) -> Fields:
        found: Fields = []
        while self:
            name = self.text(names)
            found.append((name, self.text()))
        return found


TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def assert_legal(fields: Fields) -> None:
    """RFC 9110 section 5.5 and RFC 9113 section 8.2.1, in other words than those of the rules."""
    for name, value in fields:
        assert name
        assert TOKEN.issuperset(name), name
        assert all(octet >= 0x20 or octet == 0x09 for octet in value), value
        assert 0x7F not in value, value
        assert value[:1] not in (b" ", b"\t"), value
        assert value[-1:] not in (b" ", b"\t"), value
