"""What ``deploy`` has besides load balancers: options that exist, times that fit each other."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import h2asgi
from h2asgi import cli, options

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
SERVICE = DEPLOY / "systemd" / "h2asgi.service"
INSIST = 8
"""Seconds that a stop may take beyond its time-outs; docs/deploy/service.md says for what."""


def documents(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / file).read_text("utf-8")))


def config_of(toml: str) -> h2asgi.Config:
    return h2asgi.make_config(**tomllib.loads(toml))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_every_recipe_stands_in_a_document(path: Path) -> None:
    name = path.relative_to(DEPLOY).as_posix()
    if path.suffix == ".json":  # not for reading
        assert f"`deploy/{name}`" in (ROOT / "docs/how-to/metrics.md").read_text("utf-8")
        return
    pages = (page.read_text("utf-8") for page in (ROOT / "docs" / "deploy").glob("*.md"))
    assert any(f'--8<-- "{name}"' in page for page in pages)


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".yaml"])
def test_yaml_is_valid(path: Path) -> None:
    assert documents(str(path.relative_to(DEPLOY)))


def test_the_configuration_of_an_instance_is_valid() -> None:
    config = config_of((DEPLOY / "h2asgi.toml").read_text("utf-8"))
    assert config.proxies.health_path == "/healthz"
    assert not config.http2.priorities


def test_kubernetes_asks_where_the_server_answers_and_waits_until_it_has_stopped() -> None:
    objects = {each["kind"]: each for each in documents("kubernetes/h2asgi.yaml")}
    config = config_of(objects["ConfigMap"]["data"]["h2asgi.toml"])
    pod = objects["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["https"] == config.bind.port
    assert config.proxies.health_bind == f"0.0.0.0:{ports['health']}"
    for probe in ("startupProbe", "readinessProbe"):
        path, port = container[probe]["httpGet"].values()
        assert (path, port) == (config.proxies.health_path, "health")
    variables = {each["name"]: float(each["value"]) for each in container["env"]}
    hook = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    stop = hook + config.proxies.drain_delay + sum(variables.values()) + INSIST
    assert pod["spec"]["terminationGracePeriodSeconds"] >= stop
    assert set(variables) <= known_variables()
    assert pod["metadata"]["labels"] == objects["Service"]["spec"]["selector"]


def known_variables() -> set[str]:
    return {option.variable for option in options.OPTIONS}


def test_the_image_is_not_root_s_and_stops_within_ten_seconds() -> None:
    """Docker's time before it kills."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text("utf-8")
    variables = dict(re.findall(r"(H2ASGI_\w+)=(\S+)", text))
    assert set(variables) <= known_variables()
    timeouts = ("H2ASGI_GRACEFUL_TIMEOUT", "H2ASGI_LIFESPAN_SHUTDOWN_TIMEOUT")
    assert sum(float(variables[name]) for name in timeouts) < 10
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(SERVICE.read_text("utf-8"))
    return parser


def test_the_service_has_options_that_exist_and_waits_until_it_has_stopped() -> None:
    service = unit()["Service"]
    known = {name for p in cli.command.params if isinstance(p, click.Option) for name in p.opts}
    assert set(re.findall(r"--[a-z-]+", service["ExecStartPre"] + service["ExecStart"])) <= known
    config = config_of((DEPLOY / "h2asgi.toml").read_text("utf-8"))
    timeouts = config.timeouts.graceful + config.timeouts.lifespan_shutdown
    assert int(service["TimeoutStopSec"]) > config.proxies.drain_delay + timeouts + INSIST


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    text = SERVICE.read_text("utf-8").replace("/srv/example/.venv/bin/h2asgi", sys.executable)
    (tmp_path / SERVICE.name).write_text(text)
    (tmp_path / "h2asgi.socket").write_text(SERVICE.with_suffix(".socket").read_text("utf-8"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "./h2asgi.service", "./h2asgi.socket"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
