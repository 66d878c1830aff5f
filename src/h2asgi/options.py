"""Options by their flat names: where values come from, and what they must look like.

The declarations are those of ``config/``. An option's flat name is its name
on the command line with ``_`` for ``-``: ``--http2-stream-window`` is
``http2_stream_window`` in a file and in ``h2asgi.run()``, and
``H2ASGI_HTTP2_STREAM_WINDOW`` in the environment.
"""

from __future__ import annotations

import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from operator import attrgetter
from typing import Any, Literal, NoReturn, Union

from .config import Config
from .errors import ConfigurationError

ENVIRONMENT_PREFIX = "H2ASGI_"

TOPICS = (
    *("Application", "Processes", "Listening", "TLS", "Load balancers", "Protocols"),
    *("WebSockets", "Timeouts", "Limits", "Logging", "Metrics", "Development"),
)
"""The order in which ``--help`` and ``--print-config`` show the options."""

NOT_OPTIONS = frozenset(ENVIRONMENT_PREFIX + name for name in ("CONFIG", "DATA_DIR", "COMPILE"))
"""Variables that are read elsewhere: by ``cli.py``, by ``devcerts``, and when a wheel is built."""

SECRETS = frozenset(("keyfile_password",))
"""Options whose value is never shown."""

_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))
_origin = re.compile(r"null|[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@]+").fullmatch
"""RFC 6454 section 6.2: a scheme, a host and perhaps a port, without a path."""

_path = re.compile(r"/[!$%&'()*+,\-./0-9:;=@A-Z_a-z~]*").fullmatch
"""RFC 3986 section 3.3, as a target has it."""

_QUOTED_LENGTH = 60
"""Characters of a wrong value that a message repeats: it is to stay one readable sentence."""


@dataclass(frozen=True, slots=True)
class Option:
    """One declaration of ``config/``; ``path`` leads from ``Config`` to the field."""

    name: str
    path: tuple[str, ...]
    topic: str
    help: str
    kind: type
    default: Any
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    metavar: str | None = None
    separator: str = ","
    words: Mapping[str, object] = field(default_factory=dict)
    bare: str | None = None

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()


def _kind_and_choices(hint: Any) -> tuple[type, tuple[str, ...]]:
    if typing.get_origin(hint) in (Union, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is Literal:
        return str, typing.get_args(hint)
    return typing.get_origin(hint) or hint, ()


def _declared(cls: type[Any], path: tuple[str, ...] = ()) -> list[Option]:
    hints = typing.get_type_hints(cls)
    found: list[Option] = []
    for declared in fields(cls):
        hint = hints[declared.name]
        where = (*path, declared.name)
        if is_dataclass(hint):
            found += _declared(typing.cast("type[Any]", hint), where)
        elif declared.metadata:
            settings = dict(declared.metadata)
            name = settings.pop("name").replace("-", "_")
            kind, choices = _kind_and_choices(hint)
            assert declared.default is not MISSING
            found.append(
                Option(
                    name, where, kind=kind, default=declared.default, choices=choices, **settings
                )
            )
    return found


APP = Option(
    "app", ("app",), "Application", "The application, as module:attribute.", str, default=None
)
"""The one setting that is an argument on the command line."""

OPTIONS: tuple[Option, ...] = tuple(
    sorted(_declared(Config), key=lambda option: TOPICS.index(option.topic))
)

_BY_NAME: Mapping[str, Option] = {option.name: option for option in (APP, *OPTIONS)}


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one source. ``label`` names an option as that source spells it.

    With ``text``, values are strings still to be read. None means "not given".
    """

    values: Mapping[str, object]
    label: Callable[[str], str]
    text: bool = False


def command_line(values: Mapping[str, object]) -> Layer:
    """The layer of options given as arguments, by flat name."""
    return Layer(
        values, lambda name: "APP" if name == "app" else "--" + name.replace("_", "-"), text=True
    )


def environment(variables: Mapping[str, str]) -> Layer:
    """The layer of ``H2ASGI_…`` variables; an empty one counts as not set."""
    values = {
        variable[len(ENVIRONMENT_PREFIX) :].lower(): _separated(variable, text)
        for variable, text in variables.items()
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in NOT_OPTIONS and text
    }
    return Layer(values, lambda name: ENVIRONMENT_PREFIX + name.upper(), text=True)


def _separated(variable: str, text: str) -> object:
    option = _BY_NAME.get(variable[len(ENVIRONMENT_PREFIX) :].lower())
    if option is None or option.kind is not tuple:
        return text
    return tuple(part.strip() for part in text.split(option.separator) if part.strip())


def toml_file(path: str) -> Layer:
    """The layer of a TOML file of flat names, written with ``_`` or ``-``.

    Raises ConfigurationError when it cannot be read.
    """
    import tomllib

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the configuration file {path}: {error.strerror}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from None
    values: dict[str, object] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in values:
            raise ConfigurationError(f"{name} is given twice in {path}")
        values[name] = value
    return Layer(values, lambda name: f"{name} in {path}")


def config_from(layers: Sequence[Layer]) -> Config:
    """Build the Config; an earlier layer goes before a later one, and all before the default.

    Raises ConfigurationError for an unknown name, a wrong value, and options
    that contradict each other. The application may still be missing.
    """
    values: dict[str, object] = {}
    labels: dict[str, str] = {}
    for layer in reversed(layers):
        for name, raw in layer.values.items():
            option = _BY_NAME.get(name)
            if option is None:
                _unknown(name, layer.label)
            if raw is not None:
                label = layer.label(name)
                values[name] = _read(option, raw, label, text=layer.text)
                labels[name] = label
    _cross_check(values, labels)
    return _build(values)


def make_config(app: str | Callable[..., Any], **options: object) -> Config:
    """Build the Config that ``h2asgi.run(app, **options)`` serves with.

    ``app`` is an application or ``module:attribute``, ``options`` are flat
    names; nothing is read from the environment or from files. Raises
    ConfigurationError.
    """
    named = options if callable(app) else {"app": app, **options}
    config = config_from([Layer(named, lambda name: name)])
    return replace(config, app=app)


def check_config(config: Config) -> None:
    """Check a Config that was made directly as ``make_config`` does; raises ConfigurationError."""
    labels = {option.name: ".".join(option.path) for option in given(config)}
    values = {
        name: _read(_BY_NAME[name], attrgetter(label)(config), label, text=False)
        for name, label in labels.items()
    }
    _cross_check(values, labels)


def given(config: Config) -> list[Option]:
    """Give the options that are not what they are by default."""
    return [
        option for option in OPTIONS if attrgetter(".".join(option.path))(config) != option.default
    ]


def _build(values: Mapping[str, object]) -> Config:
    own: dict[str, Any] = {}
    slices: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        path = _BY_NAME[name].path
        target = own if len(path) == 1 else slices.setdefault(path[0], {})
        target[path[-1]] = value
    hints = typing.get_type_hints(Config)
    return Config(**own, **{name: hints[name](**given) for name, given in slices.items()})


def _unknown(name: str, label: Callable[[str], str]) -> NoReturn:
    import difflib

    close = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f" (did you mean {label(close[0])}?)" if close else ""
    raise ConfigurationError(f"unknown option {label(name)}{hint}")


def _read(option: Option, raw: object, label: str, *, text: bool) -> object:
    """Turn what a layer holds into a value of the option's type and range, or refuse it."""
    if isinstance(raw, str) and raw in option.words:
        return option.words[raw]
    value = _from_text(option, raw, label) if text and isinstance(raw, str) else raw
    if option.kind is tuple and isinstance(value, str):
        value = (value,)
    if option.kind is tuple and isinstance(value, list | tuple):
        value = tuple(value)
        if not all(isinstance(item, str) and item for item in value):
            _refuse(option, label, "must be a list of texts that are not empty", value)
        return value
    if option.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not option.kind:
        _refuse(option, label, f"must be {_KIND_NAMES[option.kind]}", value)
    _check_value(option, value, label)
    return value


_KIND_NAMES: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number of seconds",
    str: "text",
    tuple: "a list of texts",
}


def _from_text(option: Option, text: str, label: str) -> object:
    if option.kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        _refuse(option, label, "must be one of 1, 0, true, false, yes, no, on and off", text)
    if option.kind in (int, float):
        try:
            return option.kind(text)
        except ValueError:
            _refuse(option, label, f"must be {_KIND_NAMES[option.kind]}", text)
    return text


def _check_value(option: Option, value: Any, label: str) -> None:
    if option.choices and value not in option.choices:
        _refuse(option, label, f"must be one of {', '.join(option.choices)}", value)
    if option.kind is str and option.default is None and not value:
        # Such as --certfile "$UNSET", which must not end in serving without TLS.
        raise ConfigurationError(f"{label} must not be empty")
    if option.kind is str and "\0" in value:
        _refuse(option, label, "must not contain a NUL", value)
    if option.kind is float and not math.isfinite(value):
        _refuse(option, label, "must be a finite number of seconds", value)
    if option.minimum is not None and value < option.minimum:
        _refuse(option, label, f"must be at least {option.minimum:.12g}", value)
    if option.maximum is not None and value > option.maximum:
        _refuse(option, label, f"must be at most {option.maximum:.12g}", value)


def _refuse(option: Option, label: str, rule: str, value: object) -> NoReturn:
    if option.name in SECRETS:
        raise ConfigurationError(f"{label} {rule}")
    shown = repr(value)
    if len(shown) > _QUOTED_LENGTH:
        shown = shown[:_QUOTED_LENGTH] + "…"
    raise ConfigurationError(f"{label} {rule}, not {shown}")


def _cross_check(values: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """Refuse options that contradict each other, naming each by where it was given."""

    def current(name: str) -> Any:
        return values.get(name, _BY_NAME[name].default)

    def either(first: str, second: str, why: str) -> None:
        if current(first) and current(second) is not None and current(second) is not False:
            raise ConfigurationError(
                f"{labels[first]} and {labels[second]} exclude each other: {why}"
            )

    either("bind", "host", "both say where to listen")
    either("bind", "port", "both say where to listen")
    either("certfile", "dev_cert", "both say which certificate to serve with")
    either("keyfile_password", "keyfile_password_file", "both give the password of the key")
    if current("keyfile") and not current("certfile"):
        raise ConfigurationError(f"{labels['keyfile']} is given without a certfile")
    if not current("certfile") and not current("dev_cert"):
        for name in ("cert", "check_authority", "cert_reqs", "redirect_http"):
            if name in labels and current(name) != _BY_NAME[name].default:
                raise ConfigurationError(f"{labels[name]} is given without a certfile")
    if current("redirect_to") and current("redirect_http") is None:
        raise ConfigurationError(f"{labels['redirect_to']} is given without redirect_http")
    _check_reload(current, labels)
    _check_client_certificates(current, labels)
    _check_proxies(current, labels)
    if current("inspect") and current("workers") != 1:
        raise ConfigurationError(
            f"{labels['inspect']} shows one process, and {labels['workers']} asks for several:"
            " leave one of them out"
        )
    if not current("http1") and not current("http2"):
        raise ConfigurationError("HTTP/1.1 and HTTP/2 are both switched off: nothing to serve")
    window, limit = current("http2_connection_window"), current("http2_max_connection_window")
    if window > limit:
        raise ConfigurationError(
            f"http2_connection_window ({window}) must not be larger than"
            f" http2_max_connection_window ({limit})"
        )
    for origin in current("ws_origin"):
        if not _origin(origin):
            raise ConfigurationError(
                f"{labels['ws_origin']} must be like https://example.com or"
                f" https://example.com:8443, not {origin!r}"
            )


def _check_reload(current: Callable[[str], Any], labels: Mapping[str, str]) -> None:
    """See that nobody wants the one process of development to be several."""
    several = {"workers": 1, "max_requests": None, "max_worker_age": 0.0}
    for name, one in several.items():
        if current("reload") and current(name) != one:
            raise ConfigurationError(
                f"{labels['reload']} and {labels[name]} exclude each other: with workers, replace"
                " them by SIGHUP"
            )


def _check_client_certificates(current: Callable[[str], Any], labels: Mapping[str, str]) -> None:
    """See that nobody who means to ask for certificates serves without asking."""
    asked = current("cert_reqs") != "none"
    if asked and not current("ca_certs"):
        raise ConfigurationError(
            f"{labels['cert_reqs']} is given without ca_certs: name the authorities to trust"
        )
    for name in ("ca_certs", "crl_file"):
        if current(name) and not asked:
            raise ConfigurationError(
                f"{labels[name]} is given, but no client is asked for a certificate:"
                " set cert_reqs to optional or required"
            )


def _check_proxies(current: Callable[[str], Any], labels: Mapping[str, str]) -> None:
    """See that who is to be believed is named, and where health checks are answered."""
    for name in ("proxy_protocol", "forwarded"):
        if current(name) and not current("forwarded_allow_ips"):
            raise ConfigurationError(
                f"{labels[name]} is given without forwarded_allow_ips: name the proxies to believe"
            )
    path = current("health_path")
    if path is not None and not _path(path):
        raise ConfigurationError(
            f"{labels['health_path']} must be a path such as /healthz, not {path!r}"
        )
    if current("health_bind") and path is None:
        raise ConfigurationError(
            f"{labels['health_bind']} is given without health_path: say what to answer there"
        )


def to_toml(config: Config) -> str:
    """Write ``config`` as a TOML file that ``--config`` reads back, grouped by topic.

    What is not set, and any secret, stands as a comment.
    """
    lines = ["# Configuration of h2asgi", "", _toml_line("app", config.app)]
    for topic in TOPICS:
        lines += ["", f"# {topic}"]
        lines += [
            _toml_line(option.name, attrgetter(".".join(option.path))(config))
            for option in OPTIONS
            if option.topic == topic
        ]
    return "\n".join(lines) + "\n"


def _toml_line(name: str, value: object) -> str:
    if value is None or (value == "" and name == "app"):
        return f"# {name} ="
    if name in SECRETS:
        return f'# {name} = "********"'
    if callable(value):
        return f"# {name} is an object of {type(value).__module__}.{type(value).__qualname__}"
    return f"{name} = {_toml_value(value)}"


def _toml_value(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    # JSON's literals are TOML's too, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
