"""Find the application that ``module:attribute`` names."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import reprlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType, TracebackType
from typing import Any

from .config import Config
from .errors import ApplicationError, ConfigurationError

ASGIApplication = Callable[..., Any]

DEFAULT_ATTRIBUTE = "app"

_dotted_name = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*").fullmatch


def import_application(config: Config) -> ASGIApplication:
    """Give the ASGI callable that ``config`` names, after calling it with ``factory``.

    A WSGI application comes back wrapped. Raises ApplicationError with one sentence that
    says what to change; what the application's own code raised is its ``__cause__``.
    ConfigurationError when a folder or library is missing.
    """
    if callable(config.app):
        target, name = config.app, _object_name(config.app)
    elif isinstance(config.app, str):
        target, name = _find(config.app, config.app_dir), config.app
    else:
        raise ApplicationError(
            f"{reprlib.repr(config.app)} is no application, and no text that names one"
        )
    if config.factory:
        target, name = _call_factory(target, name), f"what the factory {name} returned"
    _check_application(target, name, config)
    if config.interface == "wsgi":
        from .wsgi import ASGIFromWSGI

        return ASGIFromWSGI(target, config.wsgi_threads)
    return target


def without_import_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Drop the leading frames of this module and of the import system."""
    while traceback is not None and _is_import_frame(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return traceback


def _is_import_frame(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")


def _object_name(app: object) -> str:
    return getattr(app, "__qualname__", type(app).__qualname__)


def _find(app: str, app_dir: str) -> Any:
    module_name, _, attribute = app.partition(":")
    attribute = attribute or DEFAULT_ATTRIBUTE
    if app.endswith(".py") or "/" in app or os.sep in app:
        raise ApplicationError(
            f"{app} is a path: name the module instead, such as hello:app,"
            " and its folder with --app-dir"
        )
    if not _dotted_name(module_name) or not _dotted_name(attribute):
        raise ApplicationError(f"{app!r} does not name an application: write module:attribute")
    if not os.path.isdir(app_dir):
        raise ConfigurationError(f"the application's folder {app_dir} (--app-dir) does not exist")
    return _follow(_import_module(module_name, os.path.abspath(app_dir)), attribute)


def _follow(module: ModuleType, attribute: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            where = f"the module {module.__name__}" if found is module else attribute
            raise ApplicationError(
                f"{where} has no attribute {part}:"
                f" name the application in it, as in {module.__name__}:application"
            ) from None
        except Exception as error:
            raise ApplicationError(
                f"{attribute} in the module {module.__name__} cannot be read: {_summary(error)}"
            ) from error
    return found


def _import_module(name: str, app_dir: str) -> ModuleType:
    if sys.path[:1] != [app_dir]:
        sys.path.insert(0, app_dir)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if without_import_frames(error.__traceback__) is None:
            raise ApplicationError(
                f"there is no module {error.name} in {app_dir} or among the installed packages:"
                " correct APP, or name the module's folder with --app-dir"
            ) from None
        raise ApplicationError(
            f"the module {name} was found, but it imports {error.name}, which is not installed"
        ) from error
    except (Exception, SystemExit) as error:
        raise ApplicationError(
            f"the module {name} could not be imported: {_summary(error)}"
        ) from error


def _call_factory(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise ApplicationError(f"{name} is not callable, as --factory needs it to be")
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise ApplicationError(f"the factory {name} failed: {_summary(error)}") from error


def _summary(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


_KINDS: Mapping[str, tuple[str, tuple[object, ...], str]] = {
    "asgi": ("an ASGI", ({}, None, None), "scope, receive and send as ASGI 3.0 asks"),
    "wsgi": ("a WSGI", ({}, None), "environ and start_response as PEP 3333 asks"),
}
"""What an application of each kind is called with."""


def _check_application(target: object, name: str, config: Config) -> None:
    other = "wsgi" if config.interface == "asgi" else "asgi"
    article, arguments, wanted = _KINDS[config.interface]
    if inspect.iscoroutine(target):
        target.close()
        raise ApplicationError(f"{name} is a coroutine: a factory must be a plain function")
    if not callable(target):
        raise ApplicationError(f"{name} is not callable, so it is not {article} application")
    if _takes(target, arguments):
        return
    hint = "" if config.factory else "; if it returns the application, add --factory"
    article, arguments, _ = _KINDS[other]
    if _takes(target, arguments):
        hint = f"; if it is {article} application, set --interface {other}"
    raise ApplicationError(f"{name} cannot be called with {wanted}{hint}")


def _takes(target: Callable[..., Any], arguments: tuple[object, ...]) -> bool:
    try:
        # Wrappers are judged by themselves: what they wrap may look different.
        signature = inspect.signature(target, follow_wrapped=False)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True
