"""What is published: archives, and a command that needs the base dependencies alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

MODULES_OF_THE_COMMAND = 200
"""Modules that ``--version`` and ``--help`` may load, Python's own included; some 150 are."""

HEAVY = ("asyncio", "ssl", "socket", "logging", "cryptography", "h2", "h11", "wsproto", "uvloop")
"""What only a server needs."""


pytest.importorskip("hatchling")  # of the extra "test"; archives are built with it


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two files that are published, by their kind, without compiled modules."""
    folder = tmp_path_factory.mktemp("archives")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT, env={**os.environ, "H2ASGI_COMPILE": "0"}, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_the_wheel_has_the_package_its_types_and_its_licence_and_nothing_else(
    archives: dict[str, Path],
) -> None:
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        names = set(wheel.namelist())
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.suffix != ".so"
    }
    assert "h2asgi/py.typed" in names
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_has_what_it_takes_to_build_test_and_document(archives: dict[str, Path]) -> None:
    with tarfile.open(archives["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    folders = ("src", "tests", "docs", "deploy", "examples", "benchmarks", "certs")
    assert {name.partition("/")[0] for name in names if "/" in name} == set(folders)
    for name in ("build_backend.py", "build_hook.py", "mkdocs.yml", "LICENSE", "CHANGELOG.md"):
        assert name in names
    assert not [name for name in names if name.endswith((".pyc", ".so")) or "__pycache__" in name]


def _base_distributions() -> Iterator[metadata.Distribution]:
    """What the package needs without any extra, and what that needs, as it is installed here."""
    waiting, seen = list(PROJECT["dependencies"]), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name in seen or not _applies(requirement):
            continue
        seen.add(requirement.name)
        found = metadata.distribution(requirement.name)
        waiting += found.requires or []
        yield found


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


@pytest.fixture(scope="module")
def command(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``h2asgi`` in an environment that has nothing but what a plain install brings.

    The distributions are copied from here, so that no index is asked.
    """
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True)
    library = Path(folder, "lib", f"python3.{sys.version_info.minor}", "site-packages")
    for distribution in _base_distributions():
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and file.suffix != ".pyc":
                (library / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, library / file)
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        wheel.extractall(library)
    script = Path(folder, "bin", "h2asgi")
    module, _, function = PROJECT["scripts"]["h2asgi"].partition(":")
    program = f"import sys; from {module} import {function}; sys.exit({function}())"
    script.write_text(f"#!{folder}/bin/python\n{program}\n")
    script.chmod(0o755)
    return script


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("H2ASGI_")}
    return subprocess.run(
        list(map(str, arguments)), env={**clean, **variables}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_the_command_works_with_the_base_dependencies_alone(command: Path, tmp_path: Path) -> None:
    """What ``pipx run`` and ``uvx`` make: an environment for the command alone."""
    (tmp_path / "app.py").write_text("async def app(scope, receive, send): ...\n")
    folder = ("--app-dir", tmp_path, "--port", "0", "app:app")
    for arguments, said in (
        (("--version",), PROJECT["name"]),
        (("--help",), "--certfile"),
        (("--check-config", *folder), "the configuration is valid"),
    ):
        done = run(command, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout


def test_the_command_says_what_to_install_for_a_development_certificate(command: Path) -> None:
    done = run(command, "--dev-cert", "--check-config", "app:app")
    assert done.returncode == 2
    assert "trustme" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_command_loads_little_before_it_answers(option: str) -> None:
    """Modules are counted, since milliseconds depend on the machine (docs/performance.md)."""
    program = (
        "import sys\n"
        "from h2asgi.cli import main\n"
        f"main([{option!r}])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = run(sys.executable, "-I", "-S", "-c", _with_path(program))
    loaded = done.stderr.split()
    assert done.returncode == 0, done.stderr
    assert 50 < len(loaded) <= MODULES_OF_THE_COMMAND
    assert not [name for name in loaded if name.partition(".")[0] in HEAVY]


def _with_path(program: str) -> str:
    """Without the site module, and so without what .pth files of the environment load."""
    return f"import sys\nsys.path[:0] = {[path for path in sys.path if path]!r}\n{program}"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["--http2-eng"], ["--http2-engine"]),
        (["--http2-engine", ""], ["auto", "h2", "ngh2"]),
        (["--workers", ""], ["auto"]),
        (["--tls-min-version", "1."], ["1.2", "1.3"]),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing")
def test_bash_completes_options_and_their_values(line: list[str], offered: list[str]) -> None:
    words = " ".join(repr(word) for word in ("h2asgi", *line))
    script = (
        'eval "$(_H2ASGI_COMPLETE=bash_source h2asgi)"\n'
        f"COMP_WORDS=({words}); COMP_CWORD={len(line)}\n"
        '_h2asgi_completion h2asgi; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run("bash", "--norc", "-c", script, PATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == offered


@pytest.mark.parametrize(("option", "kind"), [("--certfile", "file"), ("--app-dir", "dir"),
                                              ("--config", "file")])  # fmt: skip
def test_a_shell_looks_for_files_itself(option: str, kind: str) -> None:
    done = run(
        sys.executable, "-c", "from h2asgi.cli import main; main()",
        COMP_WORDS=f"h2asgi {option} ", COMP_CWORD="2", _H2ASGI_COMPLETE="bash_complete",
    )  # fmt: skip
    assert re.fullmatch(rf"{kind},\n", done.stdout)


@pytest.mark.parametrize("demanded", ["0", "1"])
def test_only_wheels_need_a_compiler_of_python(demanded: str) -> None:
    """An editable install runs the sources: it fetches no compiler."""
    program = "import build_backend as b; print(b.get_requires_for_build_{}({{}}))"
    needs = {
        kind: run(sys.executable, "-c", f"import os; os.chdir({str(ROOT)!r}); "
                  f"import sys; sys.path.insert(0, ''); {program.format(kind)}",
                  H2ASGI_COMPILE=demanded).stdout
        for kind in ("wheel", "editable", "sdist")
    }  # fmt: skip
    assert ("mypyc" in needs["wheel"]) == (demanded == "1")
    assert "mypyc" not in needs["editable"] + needs["sdist"]
