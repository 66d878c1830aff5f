"""The servers: how each is started, what it can speak, and which of them are installed.

Every server runs without access log, on its fastest settings that a deployment
would use, and with limits raised where it would close a busy connection.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
KEEP_ALIVE = 300  # seconds; longer than any cell, so that no server closes what is in use

H2, H1_TLS, H2C, H1 = "h2", "h1-tls", "h2c", "h1"
PROTOCOLS = {
    H2: "HTTP/2 over TLS",
    H1_TLS: "HTTP/1.1 over TLS",
    H2C: "HTTP/2, cleartext",
    H1: "HTTP/1.1, cleartext",
}
ALL = frozenset(PROTOCOLS)


SOURCE = Path(__file__).parent.parent / "src"


@dataclass(frozen=True)
class Launch:
    """One server to be started. ``folder`` has cert.pem, key.pem, the log and configuration."""

    python: str
    port: int
    protocol: str
    folder: Path
    app: str = "plain:app"
    workers: int = 1

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def tls(self) -> bool:
        return self.protocol in (H2, H1_TLS)

    @property
    def cert(self) -> str:
        return str(self.folder / "cert.pem")

    @property
    def key(self) -> str:
        return str(self.folder / "key.pem")

    def with_tls(self, cert_option: str, key_option: str) -> list[str]:
        """The two options, or none for cleartext."""
        return [cert_option, self.cert, key_option, self.key] if self.tls else []

    def configuration(self, name: str, text: str) -> str:
        """Write a configuration file; its path."""
        path = self.folder / f"{name}-{self.port}.conf"
        path.write_text(text)
        return str(path)


@dataclass(frozen=True)
class Server:
    """``distribution`` is what must be installed, besides ``extras``; "" for nginx.

    ``without`` names kinds of work that it takes no part in.
    """

    name: str
    distribution: str
    command: Callable[[Launch], list[str]]
    protocols: frozenset[str] = ALL
    without: frozenset[str] = frozenset()
    extras: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        return self.distribution == "h2asgi"

    @property
    def rival(self) -> bool:
        return not self.own and self.distribution != ""


def _h2asgi(launch: Launch) -> list[str]:
    command = [launch.python, "-m", "h2asgi", "--bind", launch.address, "--no-access-log"]
    command += ["--log-level", "warning", *launch.with_tls("--certfile", "--keyfile")]
    if launch.workers > 1:
        command += ["--workers", str(launch.workers)]
    return [*command, launch.app]


def _h2asgi_fast(launch: Launch) -> list[str]:
    # Named, not left to auto: a part that is missing is an error, not a slower figure.
    engines = ["--loop", "uvloop", "--http1-engine", "httptools", "--http2-engine", "ngh2"]
    return [*_h2asgi(launch), *engines, "--tls-engine", "pyopenssl", "--ws-engine", "websockets"]


def _h2asgi_pure(launch: Launch) -> list[str]:
    engines = ["--loop", "asyncio", "--http1-engine", "h11", "--http2-engine", "h2"]
    interpreted = ["env", f"PYTHONPATH={SOURCE}"]  # ahead of what is installed, and compiled
    engines += ["--tls-engine", "ssl", "--ws-engine", "wsproto"]
    return [*interpreted, *_h2asgi(launch), *engines]


def _granian(launch: Launch) -> list[str]:
    command = [launch.python, "-m", "granian", "--host", HOST, "--port", str(launch.port)]
    command += ["--interface", "asgi", "--loop", "uvloop", "--no-access-log"]
    command += ["--log-level", "warning", "--workers", str(launch.workers)]
    return [*command, *launch.with_tls("--ssl-certificate", "--ssl-keyfile"), launch.app]


def _h2corn(launch: Launch) -> list[str]:
    command = [launch.python, "-m", "h2corn", launch.app, "--bind", launch.address]
    command += ["--loop", "uvloop", "--no-access-log", "--workers", str(launch.workers)]
    return [*command, *launch.with_tls("--certfile", "--keyfile")]


def _uvicorn(launch: Launch) -> list[str]:
    command = [launch.python, "-m", "uvicorn", "--host", HOST, "--port", str(launch.port)]
    command += ["--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
    command += ["--timeout-keep-alive", str(KEEP_ALIVE), "--workers", str(launch.workers)]
    return [*command, *launch.with_tls("--ssl-certfile", "--ssl-keyfile"), launch.app]


def _uvicorn_httptools(launch: Launch) -> list[str]:
    return [*_uvicorn(launch), "--http", "httptools", "--ws", "websockets-sansio"]


def _uvicorn_zttp(launch: Launch) -> list[str]:
    return [*_uvicorn(launch), "--http", "zttp", "--http2", "--ws", "wsproto"]


def _hypercorn(launch: Launch) -> list[str]:
    settings = f"keep_alive_max_requests = 1000000000\nkeep_alive_timeout = {KEEP_ALIVE}\n"
    path = launch.configuration("hypercorn", settings)
    command = [launch.python, "-m", "hypercorn", "--config", path, "--bind", launch.address]
    command += ["--worker-class", "uvloop", "--log-level", "WARNING"]
    command += ["--workers", str(launch.workers)]
    return [*command, *launch.with_tls("--certfile", "--keyfile"), launch.app]


def _gunicorn(launch: Launch) -> list[str]:
    command = [launch.python, "-m", "gunicorn", "--bind", launch.address]
    command += ["--worker-class", "asgi", "--asgi-loop", "uvloop", "--http-protocols", "h2,h1"]
    command += ["--keep-alive", str(KEEP_ALIVE), "--log-level", "warning", "--no-control-socket"]
    command += ["--workers", str(launch.workers), *launch.with_tls("--certfile", "--keyfile")]
    if launch.protocol == H2C:
        command += ["--http2-cleartext", "prior-knowledge"]
    return [*command, launch.app]


def _daphne(launch: Launch) -> list[str]:
    endpoint = f"tcp:{launch.port}:interface={HOST}"
    if launch.tls:
        files = f"privateKey={launch.key}:certKey={launch.cert}"
        endpoint = f"ssl:{launch.port}:{files}:interface={HOST}"
    return [launch.python, "-m", "daphne", "-v", "0", "-e", endpoint, launch.app]


def _nginx(launch: Launch) -> list[str]:
    how = {H2: "ssl http2", H1_TLS: "ssl", H2C: "http2", H1: ""}[launch.protocol]
    files = f"ssl_certificate {launch.cert}; ssl_certificate_key {launch.key};"
    paths = "".join(
        f"{kind}_temp_path {launch.folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = f"""
    daemon off; worker_processes {launch.workers};
    pid {launch.folder}/nginx-{launch.port}.pid; error_log stderr crit;
    events {{ worker_connections 4096; }}
    http {{
      access_log off; keepalive_requests 1000000000; keepalive_timeout {KEEP_ALIVE};
      {paths} default_type text/plain;
      ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;
      server {{
        listen {launch.address} {how}; {files if launch.tls else ""}
        location = / {{ return 200 "Hello, world!"; }}
        location / {{ root {launch.folder}; }}
      }}
    }}
    """
    path = launch.configuration("nginx", text)
    return [shutil.which("nginx") or "nginx", "-c", path, "-p", str(launch.folder)]


NO_PATHSEND = frozenset({"file"})
"""They would send a file as any other body."""

SERVERS = {
    server.name: server
    for server in (
        Server(
            "h2asgi",
            "h2asgi",
            _h2asgi_fast,
            extras=("uvloop", "ngh2", "httptools", "pyOpenSSL", "websockets"),
        ),
        Server("h2asgi pure", "h2asgi", _h2asgi_pure),
        Server("granian", "granian", _granian, extras=("uvloop",)),
        Server("h2corn", "h2corn", _h2corn, extras=("uvloop",)),
        Server(
            "uvicorn httptools",
            "uvicorn",
            _uvicorn_httptools,
            frozenset({H1_TLS, H1}),
            without=NO_PATHSEND,
            extras=("uvloop", "httptools", "websockets"),
        ),
        Server(
            "uvicorn zttp",
            "uvicorn",
            _uvicorn_zttp,
            without=NO_PATHSEND,
            extras=("uvloop", "zttp", "wsproto"),
        ),
        Server("hypercorn", "hypercorn", _hypercorn, without=NO_PATHSEND, extras=("uvloop",)),
        Server("gunicorn", "gunicorn", _gunicorn, without=NO_PATHSEND, extras=("uvloop", "h2")),
        # Twisted has HTTP/2 over TLS only, and one process is all that daphne runs.
        Server(
            "daphne",
            "daphne",
            _daphne,
            frozenset({H2, H1_TLS, H1}),
            without=frozenset({"workers"}) | NO_PATHSEND,
            extras=("h2", "priority", "pyOpenSSL"),
        ),
        # "return" answers before the body has come, and resets HTTP/2 streams for it.
        Server("nginx", "", _nginx, without=frozenset({"post", "upload", "fastapi", "ws"})),
    )
}

_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_implementation() + " " + platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def is_compiled(python: str) -> bool:
    """Whether the h2asgi of ``python`` is the compiled one."""
    code = "from h2asgi.banner import COMPILED; raise SystemExit(not COMPILED)"
    return subprocess.run([python, "-c", code], check=False, cwd="/").returncode == 0


def installed(python: str, names: list[str]) -> dict[str, str]:
    """Versions of those of the distributions that ``python`` can import, and its own."""
    output = subprocess.run(
        [python, "-c", _VERSIONS, *names], check=True, capture_output=True, text=True
    ).stdout
    found: dict[str, str] = json.loads(output)
    return found


def nginx_version() -> str | None:
    if shutil.which("nginx") is None:
        return None
    output = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr
    found = re.search(r"nginx/([\d.]+)", output)
    return found[1] if found else None


def missing(server: Server, versions: dict[str, str]) -> list[str]:
    """What has to be installed before ``server`` can run."""
    return [name for name in (server.distribution, *server.extras) if name not in versions]
