"""The ways in: what the command and ``h2asgi.run()`` do, in one process or in several."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from . import logs, process
from .alone import serve_alone
from .config import Config
from .errors import ApplicationError, ConfigurationError
from .importer import ASGIApplication
from .options import make_config

logger = logging.getLogger("h2asgi")


def run(app: str | ASGIApplication, **options: object) -> None:
    """Serve until SIGINT or SIGTERM, with options named as on the command line (``http2_engine``).

    Configures ``logging``, handles signals and makes the event loop. A mistake
    is logged and raises ``SystemExit`` with the command's exit code.
    """
    try:
        code = _run(make_config(app, **options))
    except (ConfigurationError, ApplicationError) as error:
        _report(error)
        code = error.exit_code
    if code:
        sys.exit(code)


def run_config(config: Config, reread: Callable[[], Config] | None = None) -> int:
    """Do what the command does: serve until a signal, then give the exit code.

    ``reread`` reads the options anew, for SIGHUP. Raises ``ConfigurationError`` and
    ``ApplicationError``. When threads of the application do not end, the process ends here.
    """
    code = 0
    failure: ConfigurationError | ApplicationError | None = None
    try:
        code = _run(config, reread)
    except (ConfigurationError, ApplicationError) as error:
        code, failure = error.exit_code, error
    threads = process.hanging_threads()
    if failure is not None:
        if not threads:
            raise failure
        _report(failure)
    if threads:
        process.leave(code, threads)
    return code


def _run(config: Config, reread: Callable[[], Config] | None = None) -> int:
    logs.configure(config.log)
    process.keep_freed_memory()
    if config.reload.enabled:
        from .reloader import serve_reloading

        return serve_reloading(config)
    # Whose parents are gone become children of process 1 of a container, which has to reap them.
    # That is the supervisor's work: an application waits for children of its own.
    if config.workers != 1 or (os.getpid() == 1 and hasattr(os, "fork")):
        from .supervisor import supervise  # which one process has no need of

        return supervise(config, reread)
    serve_alone(config)
    return 0


def _report(error: ConfigurationError | ApplicationError) -> None:
    """Log the sentence, and where the application's own code failed."""
    cause = error.__cause__ if isinstance(error, ApplicationError) else None
    logger.error("%s", error, exc_info=cause)
