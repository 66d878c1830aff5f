"""Every option, by every way of giving it (config declares them, options.py reads them)."""

from __future__ import annotations

import tomllib
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from h2asgi import cli, options
from h2asgi.config import Config
from h2asgi.errors import ConfigurationError
from h2asgi.options import OPTIONS, TOPICS, Layer, Option, config_from, make_config

BY_NAME = {option.name: option for option in OPTIONS}
each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)


def other_value(option: Option) -> Any:
    """A legal value that is not the default."""
    if option.kind is bool:
        return not option.default
    if option.name == "ws_origin":
        return ("https://first.example", "https://second.example:8443")
    if option.name == "forwarded_allow_ips":
        return ("10.0.0.5", "2001:db8::/32")
    if option.kind is tuple:
        return ("first", "second")
    if option.name == "health_path":
        return "/healthz"
    if option.name == "inspect":
        return "[::1]:9000"
    if option.choices:
        return option.choices[-1]
    if option.kind is str:
        return "some text"
    value = 70_000 if option.name.endswith("_window") else 50_000
    return option.kind(value)


def read(config: Config, option: Option) -> Any:
    return attrgetter(".".join(option.path))(config)


def arguments(option: Option, value: Any) -> list[str]:
    if option.kind is bool:
        return [option.flag if value else option.flag.replace("--", "--no-", 1)]
    values = value if option.kind is tuple else [value]
    return [part for item in values for part in (option.flag, str(item))]


def parse(*argv: str) -> dict[str, Any]:
    parsed: dict[str, Any] = cli.command.main(list(argv), "h2asgi", standalone_mode=False)
    return parsed


def resolve(*argv: str, **variables: str) -> Config:
    return cli._resolve_config(parse(*argv), variables)


def needed(option: Option) -> dict[str, Any]:
    """What has to be given besides, for ``other_value`` to make sense."""
    needs: dict[str, dict[str, Any]] = {
        "keyfile": {"certfile": "cert.pem"},
        "ca_certs": {"certfile": "cert.pem", "cert_reqs": "required"},
        "cert": {"certfile": "cert.pem"},
        "redirect_http": {"certfile": "cert.pem"},
        "redirect_to": {"certfile": "cert.pem", "redirect_http": 80},
        "check_authority": {"certfile": "cert.pem"},
        "cert_reqs": {"certfile": "cert.pem", "ca_certs": "ca.pem"},
        "crl_file": {"certfile": "cert.pem", "cert_reqs": "optional", "ca_certs": "ca.pem"},
        "http2_max_connection_window": {"http2_connection_window": 65_535},
        "proxy_protocol": {"forwarded_allow_ips": ("10.0.0.5",)},
        "forwarded": {"forwarded_allow_ips": ("10.0.0.5",)},
        "health_bind": {"health_path": "/healthz"},
    }
    return needs.get(option.name, {})


def test_there_is_one_declaration_for_each_name_and_a_place_for_each_topic() -> None:
    names = [option.name for option in OPTIONS]
    assert len(names) == len(set(names)) > 40
    assert {option.topic for option in OPTIONS} == set(TOPICS)


def test_a_word_stands_for_a_number(tmp_path: Path) -> None:
    file = tmp_path / "h2asgi.toml"
    file.write_text('workers = "auto"')
    configs = [
        resolve("--workers", "auto"),
        resolve(H2ASGI_WORKERS="auto"),
        resolve("--config", str(file)),
        make_config("app:app", workers="auto"),
    ]
    assert [config.workers for config in configs] == [0] * 4
    with pytest.raises(ConfigurationError, match="must be a whole number, not 'many'"):
        resolve("--workers", "many")


@each_option
def test_every_option_can_be_given_on_the_command_line(option: Option) -> None:
    value = other_value(option)
    extra = [
        part for name, given in needed(option).items() for part in arguments(BY_NAME[name], given)
    ]
    assert read(resolve(*arguments(option, value), *extra), option) == value
    if option.name not in ("http1", "http2"):
        assert read(resolve(), option) == option.default


@each_option
def test_every_option_can_be_given_in_the_environment(option: Option) -> None:
    value = other_value(option)
    text = f"{option.separator} ".join(value) if option.kind is tuple else str(value)
    extra = {BY_NAME[name].variable: str(given) for name, given in needed(option).items()}
    assert read(resolve(**{option.variable: text}, **extra), option) == value


@pytest.mark.parametrize("spelling", ["_", "-"])
@each_option
def test_every_option_can_be_given_in_the_file(
    option: Option, spelling: str, tmp_path: Path
) -> None:
    value = other_value(option)
    given = {option.name: value, **needed(option)}
    path = tmp_path / "h2asgi.toml"
    path.write_text(
        "".join(
            f"{key.replace('_', spelling)} = {options._toml_value(v)}\n" for key, v in given.items()
        )
    )
    assert read(resolve("--config", str(path)), option) == value


@each_option
def test_every_option_can_be_a_keyword_argument(option: Option) -> None:
    value = other_value(option)
    assert read(make_config("hello:app", **{option.name: value}, **needed(option)), option) == value


def test_command_line_goes_before_environment_before_file_before_default(tmp_path: Path) -> None:
    path = tmp_path / "h2asgi.toml"
    path.write_text(
        'app = "file:app"\nhttp2 = false\nlog_level = "error"\nbacklog = 30\ngraceful_timeout = 3\n'
    )
    variables = {
        "H2ASGI_CONFIG": str(path),
        "H2ASGI_APP": "environment:app",
        "H2ASGI_LOG_LEVEL": "warning",
        "H2ASGI_BACKLOG": "20",
    }
    config = resolve("line:app", "--backlog", "10", **variables)
    assert config.app == "line:app"
    assert config.bind.backlog == 10
    assert config.log.level == "warning"
    assert config.timeouts.graceful == 3.0
    assert config.http2.enabled is False
    assert config.http1.enabled is True
    assert resolve(**variables).app == "environment:app"
    assert resolve("--config", str(path)).app == "file:app"


def test_a_negative_flag_overrides_a_lower_layer(tmp_path: Path) -> None:
    path = tmp_path / "h2asgi.toml"
    path.write_text("access_log = true\n")
    config = resolve("--no-access-log", "--config", str(path), H2ASGI_ACCESS_LOG="yes")
    assert config.log.access_log is False


def test_config_on_the_command_line_goes_before_its_variable(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text("backlog = 1\n")
    second.write_text("backlog = 2\n")
    assert resolve("--config", str(first), H2ASGI_CONFIG=str(second)).bind.backlog == 1


@pytest.mark.parametrize("text", ["1", "true", "yes", "on", "TRUE", "On"])
def test_true_in_the_environment(text: str) -> None:
    assert resolve(H2ASGI_FACTORY=text).factory is True


@pytest.mark.parametrize("text", ["0", "false", "no", "off", "False"])
def test_false_in_the_environment(text: str) -> None:
    assert resolve(H2ASGI_HTTP1=text).http1.enabled is False


def test_an_empty_variable_counts_as_not_set() -> None:
    assert resolve(H2ASGI_PORT="", H2ASGI_ACCESS_LOG="", H2ASGI_UNHEARD_OF="") == Config()


def test_lists_in_the_environment_are_separated_by_commas() -> None:
    config = resolve(H2ASGI_BIND=" 127.0.0.1:1 , unix:/x,")
    assert config.bind.bind == ("127.0.0.1:1", "unix:/x")


def test_other_variables_of_the_project_are_not_options() -> None:
    assert resolve(H2ASGI_DATA_DIR="/somewhere", H2ASGI_COMPILE="0") == Config()


def test_one_text_will_do_for_a_list() -> None:
    assert make_config("hello", bind="unix:/x").bind.bind == ("unix:/x",)


def test_none_means_not_given() -> None:
    assert make_config("hello", certfile=None, port=None) == Config(app="hello")


def test_an_application_object_passes_through() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    config = make_config(app, port=0, dev_cert=True)
    assert config.app is app
    assert (config.bind.port, config.tls.dev_cert) == (0, True)


WRONG_ARGUMENTS = [
    (["--port", "65536"], "--port must be at most 65535, not 65536"),
    (["--port", "-1"], "--port must be at least 0, not -1"),
    (["--port", "http"], "--port must be a whole number, not 'http'"),
    (["--loop", "trio"], "--loop must be one of auto, asyncio, uvloop, not 'trio'"),
    (
        ["--graceful-timeout", "nan"],
        "--graceful-timeout must be a finite number of seconds, not nan",
    ),
    (["--graceful-timeout", "soon"], "--graceful-timeout must be a number of seconds, not 'soon'"),
    (
        ["--tls-handshake-timeout", "0"],
        "--tls-handshake-timeout must be at least 0.1, not 0.0",
    ),
    (
        ["--http2-stream-window", "65534"],
        "--http2-stream-window must be at least 65535, not 65534",
    ),
    (
        ["--http2-max-frame-size", "16777216"],
        "--http2-max-frame-size must be at most 16777215, not 16777216",
    ),
    (["--certfile", ""], "--certfile must not be empty"),
    (["--bind", ""], "--bind must be a list of texts that are not empty, not ('',)"),
    (
        ["--bind", "unix:/x", "--port", "0"],
        "--bind and --port exclude each other: both say where to listen",
    ),
    (
        ["--bind", "unix:/x", "--host", "::1"],
        "--bind and --host exclude each other: both say where to listen",
    ),
    (
        ["--certfile", "c", "--dev-cert"],
        "--certfile and --dev-cert exclude each other: both say which certificate to serve with",
    ),
    (
        ["--certfile", "c", "--keyfile-password", "x", "--keyfile-password-file", "f"],
        "--keyfile-password and --keyfile-password-file exclude each other:"
        " both give the password of the key",
    ),
    (["--keyfile", "k"], "--keyfile is given without a certfile"),
    (
        ["--no-http1", "--no-http2"],
        "HTTP/1.1 and HTTP/2 are both switched off: nothing to serve",
    ),
    (
        ["--http2-connection-window", "20000000"],
        "http2_connection_window (20000000) must not be larger than"
        " http2_max_connection_window (16777216)",
    ),
]


@pytest.mark.parametrize(("argv", "sentence"), WRONG_ARGUMENTS, ids=lambda case: " ".join(case))
def test_a_wrong_value_is_named_with_its_option(argv: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve(*argv)
    assert str(caught.value) == sentence


WRONG_VARIABLES = [
    ({"H2ASGI_PORT": "tcp://10.0.0.1:80"}, "H2ASGI_PORT must be a whole number, not 'tcp://10"),
    ({"H2ASGI_HTTP2": "maybe"}, "H2ASGI_HTTP2 must be one of 1, 0, true"),
    ({"H2ASGI_LOG_LEVLE": "info"}, "unknown option H2ASGI_LOG_LEVLE (did you mean H2ASGI_LOG_LEV"),
    ({"H2ASGI_Q": "1"}, "unknown option H2ASGI_Q"),
]


@pytest.mark.parametrize(("variables", "sentence"), WRONG_VARIABLES)
def test_a_wrong_variable_is_named(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve(**variables)
    assert str(caught.value).startswith(sentence)


WRONG_FILES = [
    ('port = "80"', "port in {path} must be a whole number, not '80'"),
    ("port = true", "port in {path} must be a whole number, not True"),
    ("port = 1.5", "port in {path} must be a whole number, not 1.5"),
    ("http2 = 1", "http2 in {path} must be true or false, not 1"),
    (
        "graceful_timeout = inf",
        "graceful_timeout in {path} must be a finite number of seconds, not inf",
    ),
    ("bind = [1]", "bind in {path} must be a list of texts that are not empty, not (1,)"),
    ("bind = 1", "bind in {path} must be a list of texts, not 1"),
    ("app = 1", "app in {path} must be text, not 1"),
    ("log-levle = 1", "unknown option log_levle in {path} (did you mean log_level in {path}?)"),
    ("[tls]\ncertfile = 'x'", "unknown option tls in {path}"),
    ("log_level = 'info'\nlog-level = 'info'", "log_level is given twice in {path}"),
    ('root_path = "a\\u0000b"', "root_path in {path} must not contain a NUL, not 'a\\x00b'"),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG_FILES)
def test_a_wrong_entry_is_named_with_its_file(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "h2asgi.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        resolve("--config", str(path))
    assert str(caught.value).startswith(sentence.format(path=path))


@pytest.mark.parametrize("contents", [b"port = ", b'root_path = "\xff"'])
def test_a_file_that_is_not_toml_is_named(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "h2asgi.toml"
    path.write_bytes(contents)
    with pytest.raises(ConfigurationError, match=f"the configuration file {path} is not TOML: "):
        resolve("--config", str(path))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=f"cannot read the configuration file {tmp_path}: Is a directory"
    ):
        resolve("--config", str(tmp_path))


def test_options_that_exclude_each_other_are_named_by_where_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "h2asgi.toml"
    path.write_text("port = 80\n")
    with pytest.raises(ConfigurationError, match=f"H2ASGI_BIND and port in {path} exclude"):
        resolve("--config", str(path), H2ASGI_BIND="unix:/x")


def test_an_unknown_keyword_argument_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown option prot \(did you mean port\?\)"):
        make_config("hello", prot=1)


def test_a_secret_is_never_repeated() -> None:
    layer = Layer({"keyfile_password": ["hunter2"]}, lambda name: name)
    with pytest.raises(ConfigurationError) as caught:
        config_from([layer])
    assert "hunter2" not in str(caught.value)


def test_a_long_wrong_value_is_cut() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve("--port", "x" * 100_000)
    assert len(str(caught.value)) < 200


def everything_changed() -> dict[str, Any]:
    changed = {option.name: other_value(option) for option in OPTIONS}
    for name in ("host", "port", "dev_cert", "keyfile_password", "http1", "reload", "inspect"):
        del changed[name]
    return changed | {"http2": True, "http2_max_connection_window": 80_000}


@pytest.mark.parametrize(
    "given",
    [{}, everything_changed(), {"root_path": 'é "\\\n\t\x7f🎈', "host": "::1", "port": 0}],
    ids=["defaults", "everything changed", "odd text"],
)
def test_a_printed_configuration_reads_back_the_same(given: dict[str, Any], tmp_path: Path) -> None:
    config = make_config("hello:app", **given)
    path = tmp_path / "printed.toml"
    path.write_text(options.to_toml(config), encoding="utf-8")
    assert resolve("--config", str(path)) == config


def test_a_printed_configuration_names_every_option_under_its_topic() -> None:
    text = options.to_toml(Config())
    topics = text.split("\n\n# ")[2:]  # after the heading and app
    assert tuple(topic.partition("\n")[0] for topic in topics) == TOPICS
    for option in OPTIONS:
        section = topics[TOPICS.index(option.topic)]
        assert f"\n{option.name} = " in section or f"\n# {option.name} =" in section
    assert "app" not in tomllib.loads(text)


def test_a_printed_configuration_hides_the_password() -> None:
    config = make_config("hello", certfile="c", keyfile_password="hunter2")
    text = options.to_toml(config)
    assert '# keyfile_password = "********"' in text
    assert "hunter2" not in text


def test_a_printed_configuration_describes_an_application_object() -> None:
    assert "# app is an object of builtins.function\n" in options.to_toml(make_config(resolve))


@pytest.mark.parametrize("origin", ["https://example.com", "HTTP://[::1]:8000", "null"])
def test_an_origin_is_scheme_host_and_port(origin: str) -> None:
    assert make_config("app", ws_origin=[origin]).websocket.origins == (origin,)


@pytest.mark.parametrize("origin", ["example.com", "https://example.com/", "*", "https://a b"])
def test_what_is_no_origin_could_never_match(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="must be like https"):
        make_config("app", ws_origin=[origin])
