"""What the tests of the command share: the examples, and certificates of every kind."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

EXAMPLES = Path(__file__).parents[2] / "examples"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Pair:
    certfile: str
    keyfile: str


class Certificates:
    """Makes pairs of every kind from one authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)

    def pair(
        self,
        name: str = "pair",
        key_type: trustme.KeyType = trustme.KeyType.ECDSA,
        *,
        begin: timedelta = timedelta(days=-1),
        end: timedelta = timedelta(days=1),
        password: bytes | None = None,
    ) -> Pair:
        now = datetime.now(UTC)
        leaf = self.authority.issue_cert(
            "localhost", not_before=now + begin, not_after=now + end, key_type=key_type
        )
        key = leaf.private_key_pem.bytes()
        if password is not None:
            key = load_pem_private_key(key, None).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
            )
        certfile, keyfile = self.folder / f"{name}-cert.pem", self.folder / f"{name}-key.pem"
        certfile.write_bytes(leaf.cert_chain_pems[0].bytes())
        keyfile.write_bytes(key)
        return Pair(str(certfile), str(keyfile))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Shake hands in memory; give the server's end. Raises what either end raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = client.wrap_bio(down, up, server_hostname="localhost")
    waiting = [theirs, ours]
    for _ in range(10):
        for end in waiting[:]:
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return ours
    raise AssertionError("the handshake does not end")
