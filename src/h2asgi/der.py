"""The few things in a certificate that are read without a library (RFC 5280 section 4.1, X.690).

The library that reads all of one costs a start 30 ms and 10 MiB.
"""

from __future__ import annotations

from datetime import datetime, timedelta

EXPIRY_NOTICE = timedelta(days=14)
"""What is left of a certificate's life when it is time to warn: renewal should have come by then.
One that is made for less than six weeks is given a third of its life."""

_VERSION = 0xA0
_UTC_TIME = 0x17


def validity(certificate: bytes) -> tuple[bytes, bytes]:
    """Give the first and the last second, as YYYYMMDDHHMMSSZ; IndexError or ValueError if unclear.

    ``certificate`` is in DER.
    """
    begin = _element(certificate, _validity(certificate))[1]
    return _time(certificate, begin), _time(certificate, _element(certificate, begin)[2])


def expiry_notice(begin: datetime, end: datetime) -> timedelta:
    """Say how long before its end a certificate is to be warned of."""
    return min(EXPIRY_NOTICE, (end - begin) / 3)


def key_algorithm(certificate: bytes) -> bytes:
    """Give the object identifier of the public key's algorithm; raises as ``validity`` does."""
    subject = _element(certificate, _validity(certificate))[2]
    key = _element(certificate, subject)[2]
    algorithm = _element(certificate, _element(certificate, key)[1])[1]
    _, begin, end = _element(certificate, algorithm)
    return certificate[begin:end]


def _validity(certificate: bytes) -> int:
    at = _element(certificate, _element(certificate, 0)[1])[1]  # into TBSCertificate
    if certificate[at] == _VERSION:
        at = _element(certificate, at)[2]
    for _ in ("serialNumber", "signature", "issuer"):
        at = _element(certificate, at)[2]
    return at


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of an element's content (X.690 section 8.1)."""
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        octets = size & 0x7F
        size = int.from_bytes(der[begin : begin + octets], "big")
        begin += octets
    return der[at], begin, begin + size


def _time(der: bytes, at: int) -> bytes:
    """A Time of RFC 5280 section 4.1.2.5, with four digits for the year."""
    tag, begin, end = _element(der, at)
    text = der[begin:end]
    if tag == _UTC_TIME:
        return (b"19" if text >= b"50" else b"20") + text
    return text
