"""A look at the files of certificates now and then: have they changed, do they expire."""

from __future__ import annotations

import logging
import os
import time

from .config import TLSConfig
from .errors import ConfigurationError
from .server_names import parse_pairs
from .tls import certificate_warnings

logger = logging.getLogger("h2asgi")

LOOK_INTERVAL = 1.0
"""Seconds between two looks. A change is believed when the next look finds the same: certificate
and key are two files, and may be written one after the other."""

WARNING_INTERVAL = 24 * 3600.0

_File = tuple[int, int, int, int] | None


class CertificateWatch:
    """Over the files that ``tls`` names, none if it is None; ``look`` is to be called regularly."""

    def __init__(self, tls: TLSConfig | None) -> None:
        self.tls = tls
        self._paths = _paths(tls) if tls is not None and tls.watch else []
        self._known = self._seen = self._files()
        self._warn_at = time.monotonic() + WARNING_INTERVAL

    def look(self) -> bool:
        """Whether other files are there than the last time that it was so; warns daily."""
        now = time.monotonic()
        if self.tls is not None and now >= self._warn_at:
            self._warn_at = now + WARNING_INTERVAL
            _warn(self.tls)
        files = self._files()
        at_rest, self._seen = files == self._seen, files
        if files == self._known or not at_rest:
            return False
        self._known = files
        return True

    def note(self) -> None:
        """Take what is there now as known: it is about to be read."""
        self._known = self._seen = self._files()

    def _files(self) -> list[_File]:
        return [_file(path) for path in self._paths]


def _paths(tls: TLSConfig) -> list[str]:
    pairs = parse_pairs(tls.named_certificates)
    paths = [tls.certfile, tls.keyfile, tls.keyfile_password_file]
    paths += [path for pair in pairs for path in (pair.certfile, pair.keyfile)]
    return [path for path in dict.fromkeys(paths) if path is not None]


def _file(path: str) -> _File:
    """What another file would not have in common, also one that a symbolic link leads to."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _warn(tls: TLSConfig) -> None:
    try:
        warnings = certificate_warnings(tls)
    except ConfigurationError as error:
        warnings = [str(error)]
    for warning in warnings:
        logger.warning("%s", warning)
