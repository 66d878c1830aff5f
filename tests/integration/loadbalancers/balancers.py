"""The recipes of ``deploy``, and the load balancers that run them on free ports of loopback."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import trustme
from apps.letters import HANG
from serving import BackgroundServer, Certificate, _Target

DEPLOY = Path(__file__).parents[3] / "deploy"

ORIGINS = ("10.0.0.5", "10.0.0.6")
"""Hosts of the instances of h2asgi in the recipes: port 8443 for TLS, 8000 in the clear."""

ALONE = {"fall 1": "fall 10"}
"""As ``docs/deploy/haproxy.md`` has it for one instance: a late check must not take it away."""

ETC = "/etc/ssl/example"
"""Where the recipes have their certificates."""

POLL = 0.05
"""Seconds between looks at a process that does not say when it is ready."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


def issue(authority: trustme.CA, folder: Path) -> Certificate:
    """Make a new certificate in ``folder``."""
    leaf = authority.issue_cert("localhost", "127.0.0.1", "app.internal")
    names = [str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem")]
    authority.cert_pem.write_to_path(names[0])
    Path(names[1]).write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(names[2])
    return Certificate(*names)


@dataclass(frozen=True)
class Recipe:
    """A file of ``deploy`` and what it can do, which the tests hold it to."""

    program: str
    file: str
    tls: bool = False
    """To the instances of h2asgi."""
    version: str = "2"
    """Of HTTP to the instances, but for gRPC and WebSockets."""
    forwarded: str = "x-forwarded"
    """How the client's address is told: the value of ``--forwarded``."""
    websocket: str = "1.1"
    """Version of HTTP that WebSockets have to the instances."""
    full_duplex: bool = True
    """Whether large bodies go both ways on one stream at once."""
    notices: bool = True
    """Whether a client that leaves is noticed while the application sends nothing."""

    @property
    def name(self) -> str:
        return f"{self.program}-{'tls' if self.tls else 'clear'}"

    def text(self, values: Mapping[str, str]) -> str:
        """The recipe with what a test has in the place of addresses and files."""
        text = (DEPLOY / self.file).read_text("utf-8")
        for old, new in values.items():
            text = text.replace(old, new)
        for left in ("10.0.0.", ETC):
            assert left not in text, f"the tests know nothing of {left} in {self.file}"
        return text


RECIPES = (
    Recipe("haproxy", "haproxy/haproxy.cfg", tls=True, websocket="2", full_duplex=False),
    Recipe(
        *("haproxy", "haproxy/haproxy-h2c.cfg"),
        forwarded="forwarded",
        websocket="2",
        full_duplex=False,
    ),
    Recipe("caddy", "caddy/Caddyfile", tls=True),
    Recipe("caddy", "caddy/Caddyfile-h2c", forwarded="forwarded"),
    Recipe("apache2", "apache/h2asgi.conf", tls=True, notices=False),
    Recipe("apache2", "apache/h2asgi-h2c.conf", forwarded="forwarded", notices=False),
    Recipe("nginx", "nginx/h2asgi.conf", tls=True, version="1.1"),
    Recipe("nginx", "nginx/h2asgi-clear.conf", version="1.1", forwarded="forwarded"),
    Recipe("envoy", "envoy/envoy.yaml", tls=True, websocket="2"),
)

PASSTHROUGH = Recipe("haproxy", "haproxy/haproxy-tcp.cfg", tls=True)


def instance_options(**options: object) -> dict[str, object]:
    """What ``deploy/h2asgi.toml`` says, but for what only tests can know, and these.

    There is no delay before it drains, which load balancers need to find out.
    """
    told = tomllib.loads((DEPLOY / "h2asgi.toml").read_text("utf-8"))
    for name in ("app", "bind", "certfile", "keyfile"):
        del told[name]
    return {**told, "forwarded_allow_ips": "127.0.0.1", "drain_delay": 0, **options}


def with_recipes(*recipes: Recipe) -> pytest.MarkDecorator:
    """Run a test with each of these, where its program is there."""
    parameters = [
        pytest.param(recipe, id=recipe.name, marks=pytest.mark.tool(recipe.program))
        for recipe in recipes
    ]
    return pytest.mark.parametrize("recipe", parameters, scope="session")


class Balancer(_Target):
    """A load balancer that runs ``recipe`` in front of instances on ``origins``, until ``stop``.

    ``port`` is where its clients reach it, over TLS. A recipe that names more
    instances than there are has the last one several times. What is in
    ``values`` is replaced as well.
    """

    stop_signal: ClassVar = signal.SIGTERM
    """What ends it without waiting for connections."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        certificate: Certificate,
        origins: Sequence[int],
        values: Mapping[str, str],
    ) -> None:
        self.certificate = certificate
        self.folder = folder
        (self.port,) = free_ports(1)
        self._recipe = recipe
        self._values = {**values, **self._certificates()}
        for number, host in enumerate(ORIGINS):
            origin = f"127.0.0.1:{origins[min(number, len(origins) - 1)]}"
            self._values |= {f"{host}:8443": origin, f"{host}:8000": origin}
        self._log = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=folder,
            env={"PATH": f"{os.environ['PATH']}:/usr/sbin", "HOME": str(folder)},
        )

    def _certificates(self) -> dict[str, str]:
        certfile, keyfile = self.certificate.certfile, self.certificate.keyfile
        both = Path(certfile).read_text("utf-8") + Path(keyfile).read_text("utf-8")
        return {
            f"{ETC}/site-with-key.pem": self.write("site-with-key.pem", both),
            f"{ETC}/site.pem": certfile,
            f"{ETC}/site-key.pem": keyfile,
            f"{ETC}/origin-ca.pem": self.certificate.ca_file,
        }

    def command(self) -> list[str]:
        """Write the configuration; give what runs it in the foreground."""
        raise NotImplementedError

    def configuration(self, **values: str) -> str:
        """The recipe with its values and these."""
        return self._recipe.text({**self._values, **values})

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, "utf-8")
        return str(path)

    @property
    def lost_by_itself(self) -> int:
        """Requests that no instance could have saved."""
        return 0

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def wait_until_ready(self) -> None:
        """Wait until an instance answers through it."""
        deadline = time.monotonic() + HANG
        while not self._answers():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(POLL)

    def _answers(self) -> bool:
        request = b"GET /hello HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        try:
            with self.connect("http/1.1") as sock:
                sock.sendall(request)
                return sock.recv(12).endswith(b" 200")
        except OSError:
            return False

    def stop(self) -> None:
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(HANG)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()


class HAProxy(Balancer):
    def command(self) -> list[str]:
        text = self.configuration(**{"bind :443": f"bind 127.0.0.1:{self.port}"})
        own = self.write("global.cfg", f"global\n    stats socket {self.folder}/stats\n")
        return ["haproxy", "-db", "-f", own, "-f", self.write("haproxy.cfg", text)]

    def servers(self) -> dict[str, dict[str, str]]:
        """What its statistics say of each instance (section 9.1 of its management guide)."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(HANG)
            sock.connect(f"{self.folder}/stats")
            sock.sendall(b"show stat\n")
            text = b"".join(iter(lambda: sock.recv(65_536), b"")).decode().removeprefix("# ")
        rows = csv.DictReader(text.strip().splitlines())
        return {row["svname"]: row for row in rows if row["svname"].startswith("app")}

    def wait_for_checks(self, *results: str) -> None:
        """Wait until health checks of the instances have come to these, such as L7OK."""
        deadline = time.monotonic() + HANG
        while [row["check_status"] for row in self.servers().values()] != list(results):
            assert time.monotonic() < deadline, self.servers()
            time.sleep(POLL)


class Caddy(Balancer):
    @property
    def lost_by_itself(self) -> int:
        """POSTs that were about to use a connection as its GOAWAY came.

        Go 1.19's client takes another connection then, but has closed the body.
        """
        return self.log.count('"msg":"body closed by handler"')

    def command(self) -> list[str]:
        options = "{\n\tadmin off\n\tauto_https off\n\tgrace_period 1s\n}\n"
        site = f"https://localhost:{self.port} {{\n\tbind 127.0.0.1\n\ttls {ETC}/site.pem"
        text = self.configuration()
        site = site.replace(f"{ETC}/site.pem", self.certificate.certfile)
        text = text.replace("example.org {", f"{options}{site} {self.certificate.keyfile}")
        return ["caddy", "run", "--adapter=caddyfile", f"--config={self.write('Caddyfile', text)}"]


class Nginx(Balancer):
    def command(self) -> list[str]:
        values = {"listen 443 ": f"listen 127.0.0.1:{self.port} ", "/example.Greeter/": "/Echo/"}
        site = self.write("site.conf", self.configuration(**values))
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = "".join(f"{kind}_temp_path {kind};\n" for kind in kinds)
        user = "user root;\n" if os.geteuid() == 0 else ""
        text = (
            f"daemon off;\n{user}pid nginx.pid;\nerror_log stderr warn;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{folders}include {site};\n}}\n"
        )
        return ["nginx", "-p", str(self.folder), "-c", self.write("nginx.conf", text)]


class Apache(Balancer):
    MODULES = (
        *("mpm_event", "authz_core", "headers", "http2", "proxy", "proxy_http", "proxy_http2"),
        *("proxy_wstunnel", "rewrite", "socache_shmcb", "ssl"),
    )

    def command(self) -> list[str]:
        values = {"<VirtualHost *:443>": f"<VirtualHost 127.0.0.1:{self.port}>"}
        site = self.write("site.conf", self.configuration(**values))
        modules = "".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
            for name in self.MODULES
        )
        user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
        text = (
            f"{modules}{user}Listen 127.0.0.1:{self.port}\nServerName localhost\n"
            f"DefaultRuntimeDir {self.folder}\nPidFile {self.folder}/pid\n"
            f"ErrorLog {self.folder}/log\nInclude {site}\n"
        )
        return ["apache2", "-DFOREGROUND", "-f", self.write("apache.conf", text)]


class Envoy(Balancer):
    FAILURES = """stat_prefix: web
                access_log:
                  - name: envoy.access_loggers.stderr
                    filter: { response_flag_filter: {} }
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog
"""  # noqa: E501  # what the log says of requests that it could not serve

    def command(self) -> list[str]:
        listen = "address: {}, port_value: {}"
        values = {listen.format("0.0.0.0", 443): listen.format("127.0.0.1", self.port)}
        for host in ORIGINS:
            port = self._values[f"{host}:8443"].partition(":")[2]
            values[listen.format(host, 8443)] = listen.format("127.0.0.1", port)
        values["stat_prefix: web\n"] = self.FAILURES
        path = self.write("envoy.yaml", self.configuration(**values))
        return ["envoy", "--disable-hot-restart", "--log-level", "warning", "--config-path", path]


PROGRAMS: dict[str, type[Balancer]] = {
    "envoy": Envoy,
    "haproxy": HAProxy,
    "caddy": Caddy,
    "nginx": Nginx,
    "apache2": Apache,
}


@dataclass(frozen=True)
class Site:
    """A load balancer with one instance behind it."""

    recipe: Recipe
    balancer: Balancer
    origin: BackgroundServer
