"""The command line: options from every source -> Config -> server -> exit code."""

from __future__ import annotations

import errno
import itertools
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import click

from . import options
from ._version import __version__
from .config import Config
from .errors import ApplicationError, ConfigurationError

CONFIG_VARIABLE = "H2ASGI_CONFIG"

_ABOUT = """Serve the ASGI application APP, written module:attribute, over HTTP/2 and HTTP/1.1.

Every option can also be set by an environment variable (H2ASGI_ and its name in capitals, as in
H2ASGI_LOG_LEVEL) and in a TOML file (log_level = "debug"). The command line goes before the
environment, the environment before the file."""

_OWN_TOPIC = "Other"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code. ``arguments`` are ``sys.argv[1:]`` if left out."""
    try:
        parsed = command.main(
            None if arguments is None else list(arguments), "h2asgi", standalone_mode=False
        )
        # --help and --version end inside click, with their exit code.
        return parsed if isinstance(parsed, int) else _run(parsed)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except ConfigurationError as error:
        return _fail(str(error), error.exit_code)
    except ApplicationError as error:
        _print_cause(error)
        return _fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return 130  # what a shell reports for SIGINT
    except BrokenPipeError:  # whoever reads what is printed has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to come
        return 1


def _fail(sentence: str, exit_code: int) -> int:
    click.echo(f"h2asgi: {sentence}", err=True)
    return exit_code


def _print_cause(error: ApplicationError) -> None:
    """Show where the application's own code failed, without the frames that led there."""
    from .importer import without_import_frames

    cause = error.__cause__
    if cause is not None:
        frames = without_import_frames(cause.__traceback__)
        traceback.print_exception(type(cause), cause, frames)


def _run(parsed: dict[str, Any]) -> int:
    config = _resolve_config(parsed, os.environ)
    if parsed["dev_cert_install"] or parsed["dev_cert_uninstall"]:
        return _trust(config.tls.dev_cert_names, parsed)
    if parsed["print_config"]:
        click.echo(options.to_toml(config), nl=False)
        return 0
    if not config.app:
        raise ConfigurationError(
            "there is no application to serve: give APP as module:attribute, or set app in the"
            f" configuration file or {options.APP.variable}"
        )
    if parsed["check_config"]:
        _check(config)
        click.echo("h2asgi: the configuration is valid")
        return 0
    from .entry import run_config

    return run_config(config, lambda: _resolve_config(parsed, os.environ))


def _trust(names: Sequence[str], parsed: Mapping[str, Any]) -> int:
    from .devcerts import ca_file, trust

    if parsed["dev_cert_install"] and parsed["dev_cert_uninstall"]:
        raise ConfigurationError("--dev-cert-install and --dev-cert-uninstall exclude each other")
    if parsed["dev_cert_install"]:
        return trust.install(names, click.echo)
    return trust.uninstall(ca_file(), click.echo)


def _resolve_config(parsed: Mapping[str, Any], variables: Mapping[str, str]) -> Config:
    given = {
        name: value
        for name, value in parsed.items()
        if name not in _OWN_NAMES and value is not None and value != ()
    }
    layers = [options.command_line(given), options.environment(variables)]
    path = parsed["config"] or variables.get(CONFIG_VARIABLE)
    if path:
        layers.append(options.toml_file(path))
    return options.config_from(layers)


def _check(config: Config) -> None:
    """Try all that a start would do before it serves; ConfigurationError or ApplicationError."""
    from . import importer, logs, tls
    from .changes import Watched
    from .devcerts import resolve
    from .protocol.engines import http1_engine
    from .request_ids import RequestIDs
    from .trust import Trusted

    logs.check(config.log)
    if config.log.request_id_header is not None:
        RequestIDs(config.log.request_id_header)
    if config.http1.enabled:
        http1_engine(config.http1)
    if config.tls.enabled:
        pair = resolve(config.tls)
        tls.create_context(pair, http1=config.http1.enabled, http2=config.http2.enabled)
        for warning in tls.certificate_warnings(pair):
            click.echo(f"h2asgi: warning: {warning}", err=True)
    Trusted(config.proxies.trusted)
    if config.reload.enabled:
        Watched(config)
    _check_addresses(config)
    importer.import_application(config)


def _check_addresses(config: Config) -> None:
    from . import sockets
    from .inheritance import Inherited

    how = sockets.how(config.bind, Inherited())
    addresses = sockets.parse(config.bind, tls=config.tls.enabled)
    if config.bind.redirect_http is not None:
        addresses += sockets.parse_redirect(addresses, config.bind.redirect_http)
    if config.proxies.health_bind is not None:
        addresses += sockets.parse_health(config.proxies.health_bind)
    if config.inspect.address is not None:
        addresses += sockets.parse_inspect(config.inspect.address)
    for address in addresses:
        if isinstance(address, sockets.InheritedSocket):
            continue  # closing it would take it from whoever is to use it
        try:
            for listening in sockets.listen([address], how):
                listening.close()
        except ConfigurationError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
                raise
            # Most often by the running server whose new configuration is being checked.
            click.echo(f"h2asgi: warning: {error}", err=True)


class _TopicOption(click.Option):
    """An option that knows under which heading ``--help`` shows it."""

    def __init__(self, *args: Any, topic: str = _OWN_TOPIC, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.topic = topic


_address = re.compile(r"on|unix:.+|fd://.+|.+:[0-9]+").fullmatch


class _TopicCommand(click.Command):
    """A command whose ``--help`` is grouped by topic."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Have an option that may stand alone take only an address, and not the application."""
        bare = {option.flag: option.bare for option in options.OPTIONS if option.bare is not None}
        for position, (name, value) in enumerate(itertools.pairwise(args)):
            if name in bare and not _address(value):
                args[position] = f"{name}={bare[name]}"
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each topic, in the order of ``options.TOPICS``."""
        records: dict[str, list[tuple[str, str]]] = {
            topic: [] for topic in (*options.TOPICS, _OWN_TOPIC)
        }
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                records[getattr(parameter, "topic", _OWN_TOPIC)].append(record)
        for topic, rows in records.items():
            with formatter.section(topic):
                formatter.write_dl(rows)


def _parameter(option: options.Option) -> click.Option:
    """The click option of one declaration; what is given stays text, for ``options`` to read."""
    help_text = option.help
    if option.kind is bool:
        name = option.name.replace("_", "-")
        declaration = f"--{name}/--no-{name}"
        help_text += f" [default: {'yes' if option.default else 'no'}]"
        return _TopicOption([declaration], default=None, topic=option.topic, help=help_text)
    if option.default not in (None, "", ()):
        help_text += f" [default: {option.default}]"
    return _TopicOption(
        [option.flag, option.name],
        multiple=option.kind is tuple,
        type=str,
        **({} if option.bare is None else {"is_flag": False, "flag_value": option.bare}),
        metavar=_metavar(option),
        topic=option.topic,
        help=help_text,
        shell_complete=lambda _context, _parameter, begun: _completions(option, begun),
    )


def _completions(option: options.Option, begun: str) -> list[Any]:
    """Give what a shell offers for the value of an option, of which ``begun`` has been typed."""
    from click.shell_completion import CompletionItem

    if option.metavar in ("FILE", "DIR"):
        return _files(begun, option.metavar.lower())
    words = (*option.words, *option.choices)
    return [CompletionItem(word) for word in words if word.startswith(begun)]


def _files(begun: str, kind: str) -> list[Any]:
    """Let the shell look for files or folders (``file``, ``dir``) itself."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(begun, type=kind)]


def _metavar(option: options.Option) -> str:
    if option.choices:
        return f"[{'|'.join(option.choices)}]"
    return option.metavar or {int: "INTEGER", float: "SECONDS"}.get(option.kind, "TEXT")


_OWN_PARAMETERS = (
    _TopicOption(
        ["--config"],
        type=str,
        metavar="FILE",
        help=f"TOML file with options. [env: {CONFIG_VARIABLE}]",
        shell_complete=lambda _context, _parameter, begun: _files(begun, "file"),
    ),
    _TopicOption(
        ["--check-config"],
        is_flag=True,
        help="Check files, certificates, addresses and the application's import, then exit.",
    ),
    _TopicOption(
        ["--print-config"], is_flag=True, help="Print the resulting options as TOML, then exit."
    ),
    _TopicOption(
        ["--dev-cert-install"],
        is_flag=True,
        help="Have your browsers trust the authority of --dev-cert, then exit.",
    ),
    _TopicOption(
        ["--dev-cert-uninstall"],
        is_flag=True,
        help="Take it out of your browsers again, then exit.",
    ),
)
_OWN_NAMES = frozenset(str(parameter.name) for parameter in _OWN_PARAMETERS)


def _parsed(**values: Any) -> dict[str, Any]:
    return values


command = click.version_option(__version__, prog_name="h2asgi")(
    _TopicCommand(
        "h2asgi",
        params=[
            click.Argument(["app"], required=False),
            *map(_parameter, options.OPTIONS),
            *_OWN_PARAMETERS,
        ],
        callback=_parsed,
        help=_ABOUT,
        context_settings={"max_content_width": 100},
    )
)
