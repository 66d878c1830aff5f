"""Imports run one way: cli -> server -> connection -> {protocol, asgi} -> {errors, config}.

The table is the whole truth: an arrow that is not in it fails, and so does one that
nobody needs any more. Imports inside functions and for type checkers count too.
"""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import h2asgi

ROOT = Path(h2asgi.__file__).parent

ARROWS = {
    "h2asgi": {"_version", "config", "entry", "options", "server"},  # the public face
    "__main__": {"cli"},
    "cli": {
        *{
            "_version",
            "changes",
            "config",
            "devcerts",
            "entry",
            "errors",
            "importer",
            "inheritance",
        },
        *{"logs", "options", "protocol.engines", "request_ids", "sockets", "tls", "trust"},
    },
    "entry": {
        *{"alone", "config", "errors", "importer", "logs", "options", "process", "reloader"},
        *{"supervisor"},
    },
    "supervisor": {
        *{"banner", "certificate_watch", "config", "crew", "endpoint", "errors", "identity"},
        *{"inheritance", "key_pairs", "line", "logs", "noted_signals", "notify", "process"},
        *{"rotation", "tls_context", "upgrade", "worker"},
    },
    "reloader": {
        *{"banner", "certificate_watch", "changes", "config", "crew", "endpoint", "errors"},
        *{"identity", "inheritance", "line", "noted_signals", "process", "worker"},
    },
    "changes": {"config", "errors"},
    "rotation": {"crew"},
    "crew": {"line", "noted_signals", "process", "scoreboard", "tally", "worker"},
    "noted_signals": set(),
    "worker": {
        *{"config", "endpoint", "errors", "health", "key_pairs", "line", "logs", "process"},
        *{"hosted", "scoreboard", "server", "tally", "trace"},
    },
    "line": set(),
    "alone": {
        *{"config", "endpoint", "errors", "hosted", "identity", "inheritance", "logs", "notify"},
        *{"process", "server", "trace", "upgrade"},
    },
    "hosted": {"config", "endpoint", "logs", "loop_watch", "process", "server", "trace"},
    "upgrade": {"endpoint", "inheritance", "notify"},
    "notify": set(),
    "identity": {"config", "errors"},
    "inheritance": {"errors"},
    "server": {
        *{"admission", "arrivals", "banner", "certificate_watch", "config", "connection"},
        *{
            "default_fields",
            "endpoint",
            "errors",
            "forwarded",
            "health",
            "importer",
            "inspector",
            "lifespan",
        },
        *{"limits", "listener", "logs", "monitoring", "options", "process", "protocol", "pulse"},
        *{"redirect", "relief", "request_ids", "trace"},
    },
    "default_fields": set(),
    "certificate_watch": {"config", "errors", "server_names", "tls"},
    "redirect": {"asgi", "connection", "endpoint", "further_port"},
    "monitoring": {"asgi", "connection", "endpoint", "further_port", "metrics", "sockets"},
    "inspector": {
        *{"_version", "asgi", "connection", "endpoint", "errors", "further_port", "protocol"},
        *{"protocol.http2", "state", "tls_object"},
    },
    "further_port": {
        *{"arrivals", "config", "connection", "listener", "protocol", "sockets", "trust"},
    },
    "endpoint": {
        *{"banner", "config", "devcerts", "errors", "health", "inheritance", "key_pairs"},
        *{"listener", "metrics", "protocol.engines", "sockets", "tally", "tls", "tls_context"},
        *{"trust"},
    },
    "metrics": {"_version", "asgi", "der", "errors", "tally", "tls_context"},
    "pulse": {"state", "tally"},
    "loop_watch": {"places"},
    "places": set(),
    "relief": {"connection", "limits", "tally"},
    "scoreboard": {"tally"},
    "listener": {"admission", "arrivals", "sockets", "tally", "tls_context", "trust"},
    "arrivals": {
        *{"admission", "callbacks", "protocol", "shared_by_transports", "socket_transport"},
        *{"tally", "tcp", "tls_context", "tls_handshake", "tls_transport"},
    },
    "connection": {
        *{"closing", "errors", "exchanges", "limits", "outlet", "output", "passage", "protocol"},
        *{"protocol.engines", "protocol.http2", "proxied", "reading", "state", "tcp", "timer"},
        *{"tally", "tls_extension", "turns"},
    },
    "turns": set(),
    "reading": {"tcp", "timer"},
    "proxied": {"protocol", "state"},
    "state": {"asgi", "config", "forwarded", "health", "request_ids", "tally", "trace", "turns"},
    "request_ids": {"asgi", "errors", "protocol"},
    "slow_requests": {"asgi", "logs", "places", "timer"},
    "overdue": {"asgi", "protocol", "timer"},
    "output": {"config", "limits", "protocol", "tally", "timer"},
    "passage": {"output", "turns"},
    "outlet": {"output", "protocol.http1"},
    "closing": {"timer"},
    "exchanges": {
        *{"asgi", "errors", "observers", "outlet", "output", "overdue", "own_answers"},
        *{"passage", "protocol", "protocol.websocket", "request", "request_ids"},
        *{"slow_requests", "state", "tally", "tasks", "timer", "turns", "websocket_exchange"},
        *{"writers"},
    },
    "own_answers": {"health", "observers", "protocol", "request", "state", "turns"},
    "writers": {"errors"},
    "observers": {"asgi", "forwarded", "protocol", "slow_requests", "state", "trace"},
    "forwarded": {"protocol", "trust"},
    "trust": {"errors", "protocol"},
    "health": set(),
    "websocket_exchange": {
        *{"asgi", "config", "errors", "passage", "protocol", "protocol.engines"},
        *{"protocol.websocket", "timer"},
    },
    "protocol.engines": {
        *{"config", "errors", "protocol.http1", "protocol.http2", "protocol.websocket"},
    },
    "protocol.http1": {"config", "errors", "limits", "protocol"},
    "protocol.http2": {"config", "errors", "limits", "protocol", "tally"},
    "protocol.websocket": {"config", "errors", "protocol"},
    "protocol": {"errors", "request"},  # the seam: events, engine, headers
    "asgi": {"compiled", "errors", "request"},
    "request": set(),
    "banner": {"_version", "config", "protocol", "protocol.engines", "tls"},
    "process": {"errors", "logs"},
    "logs": {"config", "errors", "trace"},
    "options": {"config", "errors"},
    "testing": {"config", "errors", "importer", "options", "process", "server"},
    "pytest_plugin": {"testing"},
    "importer": {"config", "errors", "wsgi"},
    "wsgi": {"errors"},
    "devcerts": {"config", "errors"},
    "tls": {
        *{"certificates", "config", "der", "errors", "key_pairs", "server_names", "tls_context"},
        *{"tls_pyopenssl"},
    },
    "key_pairs": {
        *{"certificates", "config", "der", "errors", "memory_file", "server_names", "tls_context"},
    },
    "memory_file": set(),
    "tls_object": set(),
    "tls_pyopenssl": {"memory_file", "tls_object"},
    "der": set(),
    "tls_context": {"server_names", "tls_object", "tls_pyopenssl"},
    "server_names": {"errors"},
    "client_hello": set(),
    "tls_extension": {"certificates", "tls_object"},
    "certificates": {"der", "errors", "server_names"},
    "sockets": {"config", "errors", "identity", "inheritance"},
    "lifespan": {"errors"},
    "config": set(),
    "errors": set(),
    "limits": set(),
    "tally": {"errors"},
    "admission": set(),
    "tasks": set(),
    "tcp": set(),
    "timer": {"shared_by_transports"},
    "shared_by_transports": set(),
    "socket_transport": {"callbacks", "shared_by_transports"},
    "tls_transport": {"callbacks", "shared_by_transports", "socket_transport", "tls_object"},
    "tls_handshake": {"client_hello", "shared_by_transports", "tls_context", "tls_object"},
    "callbacks": set(),
    "trace": set(),
    "compiled": set(),
    "_version": set(),
}

LIBRARIES = {
    "compiled": {"mypy_extensions"},  # for type checkers
    "changes": {"watchfiles"},
    "cli": {"click"},
    "devcerts": {"cryptography", "idna", "trustme"},
    "certificates": {"cryptography"},
    "metrics": {"prometheus_client"},
    "process": {"uvloop"},
    "tls_pyopenssl": {"OpenSSL", "cryptography"},
    "wsgi": {"_typeshed", "a2wsgi"},
    "testing": {"httpx", "trustme"},
    "pytest_plugin": {"httpx", "pytest"},
    "protocol.http1": {"h11", "httptools"},
    "protocol.http2": {"h2", "hpack", "ngh2"},
    "protocol.websocket": {"websockets", "wsproto"},
}
"""What comes from elsewhere, and the only rooms that know it."""

NOT_SANS_IO = {
    *{"asyncio", "concurrent", "datetime", "http.client", "logging", "multiprocessing", "os"},
    *{"queue", "random", "select", "selectors", "signal", "socket", "ssl", "subprocess", "sys"},
    *{"threading", "time", "warnings"},
}
"""No loop, clock, log, socket or thread inside ``protocol``."""

BUILD_A_CONFIG = {"entry", "options", "server", "testing"}
"""``options`` for the command line and ``make_config``, ``entry`` for ``run``, ``testing`` for its
tests; ``server`` where an embedder gave none."""


def modules() -> dict[str, ast.Module]:
    """Every module by its dotted name, without the package's own."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def room(module: str) -> str:
    """The part of the table a module belongs to."""
    name = module.removesuffix("__init__").removesuffix(".") or "h2asgi"
    if name in ARROWS:
        return name
    return name.rpartition(".")[0]


def imports(module: str) -> tuple[set[str], set[str]]:
    """The modules that a module imports: our own, and those of others."""
    own: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            others |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module
            others.add(node.module)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] + (node.module or "").split(".")
            source = ".".join(filter(None, base))
            for alias in node.names:
                whole = f"{source}.{alias.name}" if source else alias.name
                own.add(whole if {whole, f"{whole}.__init__"} & set(MODULES) else source)
    return own, others


def library(name: str) -> str | None:
    top = name.partition(".")[0]
    return None if top in sys.stdlib_module_names else top


def test_every_module_has_a_room():
    assert {room(module) for module in MODULES} == set(ARROWS)


@pytest.mark.parametrize("name", ARROWS)
def test_room_imports_what_it_may_and_no_more(name):
    seen = set()
    for module in MODULES:
        if room(module) == name:
            seen |= {room(target) for target in imports(module)[0]} - {name}
    assert seen == ARROWS[name]


def test_rooms_import_one_way():
    tuple(TopologicalSorter(ARROWS).static_order())  # raises CycleError


def test_modules_import_one_way():
    tuple(TopologicalSorter({module: imports(module)[0] for module in MODULES}).static_order())


def test_protocol_and_asgi_never_import_each_other():
    """Whatever somebody may write into the table."""
    for name, targets in ARROWS.items():
        if name.startswith("protocol"):
            assert "asgi" not in targets
    assert ARROWS["asgi"] <= {"compiled", "errors", "config", "limits", "request"}


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_in_their_rooms(module):
    libraries = {library(name) for name in imports(module)[1]} - {None}
    assert libraries <= LIBRARIES.get(room(module), set())


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("protocol")])
def test_protocol_is_sans_io(module):
    assert not imports(module)[1] & NOT_SANS_IO


@pytest.mark.parametrize("module", sorted(set(MODULES) - BUILD_A_CONFIG))
def test_nobody_else_builds_a_config(module):
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"Config", "make_config"}, node.lineno


def test_import_of_the_package_pulls_in_no_room():
    """``import h2asgi`` is quick: what it names otherwise is there for type checkers."""
    eager = {
        room(target)
        for node in MODULES["__init__"].body
        if isinstance(node, ast.ImportFrom) and node.level
        for target in [node.module]
    }
    assert eager == {"_version"}
