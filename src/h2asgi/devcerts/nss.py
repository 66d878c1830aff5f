"""Stores of certificates that browsers on Linux and Firefox read: NSS databases of the user.

They are written by ``certutil``, the program of NSS itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError
from .authority import COMMON_NAME
from .storage import data_home, home_folder

CERTUTIL_TIMEOUT = 20.0
"""Seconds for one call, which takes some milliseconds unless a disk or a lock is in its way."""

_BOXED_CHROMIUM = (
    "snap/*/current/.pki/nssdb",
    ".var/app/*/.pki/nssdb",
    ".var/app/*/data/pki/nssdb",
)
_FIREFOX = (
    ".mozilla/firefox/*",
    ".config/mozilla/firefox/*",
    "snap/firefox/common/.mozilla/firefox/*",
    ".var/app/org.mozilla.firefox/.mozilla/firefox/*",
    ".var/app/org.mozilla.firefox/config/mozilla/firefox/*",
)
"""Patterns of folders below that of the user; what holds no database is none."""

_ours = re.compile(rf"^({COMMON_NAME} [0-9a-f]{{8}}) +\S*,\S*,\S* *$", re.MULTILINE).findall
"""In what ``certutil -L`` lists: a nickname, and what the certificate is trusted for."""


@dataclass(frozen=True, slots=True)
class Store:
    """A database in a folder, and whose it is. ``missing`` if it is still to be made."""

    owner: str
    folder: Path
    missing: bool = False


def stores() -> list[Store]:
    """Give those of the user: of Chromium and its kin, and of each profile of Firefox.

    On Windows and macOS browsers ask the system, Firefox among them since version 120.
    """
    if sys.platform in ("win32", "darwin"):
        return []
    home = home_folder()
    own = [home / ".pki" / "nssdb", data_home(home) / "pki" / "nssdb"]
    chromium = [Store("Chromium", folder) for folder in own if _is_store(folder)]
    # A browser that was never started has none, and takes the one that it finds.
    chromium = chromium or [Store("Chromium", own[0], missing=True)]
    chromium += [Store("Chromium", folder) for folder in _databases(home, _BOXED_CHROMIUM)]
    return chromium + [Store("Firefox", folder) for folder in _databases(home, _FIREFOX)]


def _databases(home: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [
        folder for pattern in patterns for folder in sorted(home.glob(pattern)) if _is_store(folder)
    ]


def _is_store(folder: Path) -> bool:
    return (folder / "cert9.db").is_file()


def install(store: Store, ca_file: Path, name: str) -> list[str]:
    """Trust the authority in ``ca_file`` there; give the names of those that it takes the place of.

    Raises StoreError.
    """
    former = [] if store.missing else [each for each in installed(store) if each != name]
    if store.missing:
        try:
            store.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(str(error.strerror)) from None
        _certutil(store, "-N", "--empty-password")
    _certutil(store, "-A", "-t", "C,,", "-n", name, "-i", str(ca_file))
    return former


def remove(store: Store) -> list[str]:
    """Take our authorities out, and give their names; raises StoreError."""
    names = [] if store.missing else installed(store)
    for name in names:
        _certutil(store, "-D", "-n", name)
    return names


def installed(store: Store) -> list[str]:
    """Give the names of our authorities that are there; raises StoreError."""
    return list(_ours(_certutil(store, "-L")))


class StoreError(Exception):
    """A store cannot be read or written; the text is certutil's."""


def need_certutil(option: str) -> None:
    """Raise ConfigurationError if it is missing."""
    if shutil.which("certutil") is None:
        raise ConfigurationError(
            f"{option} needs certutil: apt install libnss3-tools, dnf install nss-tools"
            " or pacman -S nss"
        )


def _certutil(store: Store, *arguments: str) -> str:
    command = ["certutil", "-d", f"sql:{store.folder}", *arguments]
    try:
        # In a session of its own: it would ask the terminal for the password of a store.
        done = subprocess.run(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CERTUTIL_TIMEOUT,
            start_new_session=True,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StoreError(f"certutil does not end within {CERTUTIL_TIMEOUT:g} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"certutil ended with {done.returncode}"]
        raise StoreError(lines[-1].removeprefix("certutil: ").rstrip("."))
    return done.stdout
