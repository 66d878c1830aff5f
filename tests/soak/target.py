"""The server that is watched: a process of its own, and how clients in other processes reach it."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import trustme

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER.parent / "integration"), str(FOLDER.parent / "protocol" / "http2")]

from h2client import H2Client  # noqa: E402
from serving import Certificate, Command, _Target  # noqa: E402

from .soak_app import Ledger  # noqa: E402

LIMITS = ("--graceful-timeout", "1", "--no-access-log")
processes = multiprocessing.get_context("spawn")


class SharedCertificate(Certificate):
    """One context for all connections of a client: making it takes longer than using it."""

    @functools.cache  # noqa: B019, there is one certificate for the whole process
    def client_context(self, *protocols: str) -> ssl.SSLContext:
        return super().client_context(*protocols)


class Target(_Target):
    """A server as its clients know it; it can be handed to another process."""

    def __init__(self, port: int, certificate: Certificate) -> None:
        self.port = port
        self.certificate: Certificate = certificate


class Watcher:
    """Asks for the ledger, over one connection that is always there."""

    def __init__(self, target: Target) -> None:
        self._client = H2Client(target.connect("h2"))

    def read(self, *, collect: bool = False) -> Ledger:
        path = "/ledger?collect" if collect else "/ledger"
        (response,) = self._client.finish(self._client.start(path))
        assert response.status == 200, response
        return Ledger(**json.loads(response.body))

    def close(self) -> None:
        self._client.sock.close()


@contextlib.contextmanager
def serving_command(*options: str) -> Iterator[tuple[Command, Target]]:
    """Serve ``soak_app`` as a process, with TLS; it may not have complained at the end."""
    with tempfile.TemporaryDirectory() as folder:
        certificate = _certificate(Path(folder))
        options = ("--app-dir", str(FOLDER), *LIMITS, *options)
        command = Command("soak_app:app", certificate, options)
        try:
            command.wait_until_listening()
            yield command, Target(command.port, certificate)
        finally:
            command.kill()
        assert not command.complaints(), command.complaints()


def _certificate(folder: Path) -> SharedCertificate:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    paths = [str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem")]
    authority.cert_pem.write_to_path(paths[0])
    leaf.cert_chain_pems[0].write_to_path(paths[1])
    leaf.private_key_pem.write_to_path(paths[2])
    return SharedCertificate(*paths)
