"""What the tests of the command share: the examples, and certificates of every kind."""

from __future__ import annotations

import contextlib
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

from h2asgi.tls_context import ServerContext
from h2asgi.tls_object import TLSObject

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


def handshake(
    server: ServerContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[TLSObject, ssl.SSLObject]:
    """Shake hands in memory; give both ends, the server's first. Raises what either raises."""
    down, up = ssl.MemoryBIO(), ssl.MemoryBIO()
    scratch = memoryview(bytearray(65_536))
    ours = server.begin()
    theirs = client.wrap_bio(down, up, server_hostname="localhost", session=session)
    done = False
    for _ in range(10):
        with contextlib.suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
            if done:
                with contextlib.suppress(ssl.SSLWantReadError):  # takes the session tickets
                    theirs.read(1)
                return ours, theirs
        if octets := up.read():
            ours.receive(memoryview(octets), len(octets))
        done = ours.do_handshake()
        down.write(ours.data_to_send(scratch))
    raise AssertionError("the handshake does not end")
