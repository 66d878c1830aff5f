from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from h2asgi.config import Config
from h2asgi.errors import ApplicationError, ConfigurationError
from h2asgi.importer import import_application, without_import_frames

pytestmark = pytest.mark.usefixtures("_own_path")

MODULE = """
import functools

async def app(scope, receive, send): "the default"

class Site:
    class inner:
        async def deep(scope, receive, send): ...
    async def __call__(self, scope, receive, send): ...
    def __getattr__(self, name): raise RuntimeError("no luck with " + name)

site = Site()
answer = 42

def create(): return app
def create_nothing(): return None
async def create_later(): return app
def create_badly(): raise LookupError("no database\\nat all")
def needs_more(one): return app

@functools.wraps(create)
def wrapped(*args): return app(*args)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("def f():\n    return {}['key']\nf()\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit()\n")
    (tmp_path / "unwritten.py").write_text("def f(:\n")
    (tmp_path / "lacking.py").write_text("import no_such_module_anywhere\n")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inside.py").write_text("async def app(scope, receive, send): ...\n")
    return tmp_path


def load(app: Any, folder: Path, *, factory: bool = False) -> Any:
    return import_application(Config(app=app, app_dir=str(folder), factory=factory))


def test_the_attribute_is_app_when_left_out(folder: Path) -> None:
    assert load("served", folder) is sys.modules["served"].app
    assert load("served:", folder) is sys.modules["served"].app


def test_attributes_and_modules_may_be_dotted(folder: Path) -> None:
    assert load("served:Site.inner.deep", folder).__name__ == "deep"
    assert load("package.inside:app", folder).__module__ == "package.inside"


def test_the_folder_goes_to_the_front_of_the_path_once(folder: Path) -> None:
    load("served", folder)
    load("served", folder)
    assert sys.path[0] == str(folder)
    assert sys.path.count(str(folder)) == 1


def test_a_factory_is_called(folder: Path) -> None:
    assert load("served:create", folder, factory=True) is sys.modules["served"].app


def test_an_application_object_is_taken_as_it_is(folder: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    path = sys.path[:]
    assert load(app, folder) is app
    assert load(lambda: app, folder, factory=True) is app
    assert sys.path == path


def test_a_wrapper_is_judged_by_its_own_signature(folder: Path) -> None:
    assert load("served:wrapped", folder).__name__ == "create"


def test_a_callable_without_a_signature_is_trusted(folder: Path) -> None:
    class Opaque:
        __signature__ = "none"

        def __call__(self, *args: Any) -> None: ...

    app = Opaque()
    assert load(app, folder) is app


WRONG = [
    (
        "absent",
        "there is no module absent in {folder} or among the installed packages: correct APP",
    ),
    ("served.sub", "there is no module served.sub in {folder}"),
    ("package.absent:app", "there is no module package.absent in {folder}"),
    (
        "lacking",
        "the module lacking was found, but it imports no_such_module_anywhere,"
        " which is not installed",
    ),
    ("broken", "the module broken could not be imported: KeyError: 'key'"),
    ("leaving", "the module leaving could not be imported: SystemExit"),
    ("unwritten", "the module unwritten could not be imported: SyntaxError: "),
    (
        "served:ap",
        "the module served has no attribute ap: name the application in it,"
        " as in served:application",
    ),
    ("served:Site.inner.shallow", "Site.inner.shallow has no attribute shallow"),
    ("served:site.thing", "site.thing in the module served cannot be read: RuntimeError: no luck"),
    ("served:answer", "served:answer is not callable, so it is not an ASGI application"),
    (
        "served:create",
        "served:create cannot be called with scope, receive and send as ASGI 3.0 asks;"
        " if it returns the application, add --factory",
    ),
    ("served.py", "served.py is a path: name the module instead"),
    ("./served:app", "./served:app is a path: name the module instead"),
    (".served:app", "'.served:app' does not name an application: write module:attribute"),
    (":app", "':app' does not name an application: write module:attribute"),
    ("served:app()", "'served:app()' does not name an application: write module:attribute"),
]


@pytest.mark.parametrize(("app", "sentence"), WRONG)
def test_what_cannot_be_served_is_said_in_one_sentence(
    app: str, sentence: str, folder: Path
) -> None:
    with pytest.raises(ApplicationError) as caught:
        load(app, folder)
    assert str(caught.value).startswith(sentence.format(folder=folder))
    assert "\n" not in str(caught.value)


WRONG_FACTORIES = [
    ("served:create_nothing", "what the factory served:create_nothing returned is not callable"),
    (
        "served:create_later",
        "what the factory served:create_later returned is a coroutine:"
        " a factory must be a plain function",
    ),
    (
        "served:create_badly",
        "the factory served:create_badly failed: LookupError: no database",
    ),
    ("served:needs_more", "the factory served:needs_more failed: TypeError: "),
    ("served:answer", "served:answer is not callable, as --factory needs it to be"),
]


@pytest.mark.parametrize(("app", "sentence"), WRONG_FACTORIES)
def test_a_factory_that_fails_is_said_in_one_sentence(
    app: str, sentence: str, folder: Path
) -> None:
    with pytest.raises(ApplicationError) as caught:
        load(app, folder, factory=True)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"folder .*gone \(--app-dir\) does not exist"):
        load("served", tmp_path / "gone")


def test_the_cause_shows_the_applications_own_frames_only(folder: Path) -> None:
    with pytest.raises(ApplicationError) as caught:
        load("broken", folder)
    cause = caught.value.__cause__
    assert isinstance(cause, KeyError)
    frames = traceback.extract_tb(without_import_frames(cause.__traceback__))
    assert [(Path(frame.filename).name, frame.name) for frame in frames] == [
        ("broken.py", "<module>"),
        ("broken.py", "f"),
    ]


def test_a_module_that_is_not_there_has_no_cause_to_show(folder: Path) -> None:
    with pytest.raises(ApplicationError) as caught:
        load("absent", folder)
    assert caught.value.__cause__ is None


def environ_and_start(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    return []


def test_an_application_of_the_other_kind_is_recognised(folder: Path) -> None:
    with pytest.raises(ApplicationError) as caught:
        import_application(Config(app=environ_and_start))
    assert str(caught.value).endswith("; if it is a WSGI application, set --interface wsgi")
    with pytest.raises(ApplicationError) as caught:
        import_application(Config(app="served:app", app_dir=str(folder), interface="wsgi"))
    assert str(caught.value).endswith("; if it is an ASGI application, set --interface asgi")


def test_a_wsgi_application_comes_back_as_an_asgi_one() -> None:
    application = import_application(Config(app=environ_and_start, interface="wsgi"))
    import_application(Config(app=application))


def test_a2wsgi_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a2wsgi.wsgi", None)
    with pytest.raises(ConfigurationError, match=r"needs a2wsgi: pip install 'h2asgi\[wsgi\]'$"):
        import_application(Config(app=environ_and_start, interface="wsgi"))
