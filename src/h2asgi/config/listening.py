"""Where to listen, and what TLS may negotiate there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .option import option


@dataclass(frozen=True, slots=True, kw_only=True)
class BindConfig:
    """Where to listen."""

    host: str | None = option(
        None, "host", "Listening",
        "Host name or address to listen on. [default: loopback, 127.0.0.1 and ::1]",
    )  # fmt: skip
    port: int | None = option(
        None, "port", "Listening",
        "Port to listen on; 0 takes a free one. [default: 8443 with TLS, 8000 without]",
        minimum=0, maximum=65_535,
    )  # fmt: skip
    bind: tuple[str, ...] = option(
        (), "bind", "Listening",
        "Address to listen on instead of --host and --port: host:port, [::1]:port, unix:/path "
        "or fd://3. Repeatable.",
    )  # fmt: skip
    backlog: int = option(
        2048, "backlog", "Listening",
        "Connections that the kernel may hold before they are accepted.", minimum=1,
    )  # fmt: skip
    reuse_port: bool = option(
        False, "reuse-port", "Listening",
        "Give each worker a socket of its own on every port (SO_REUSEPORT), so that the kernel "
        "spreads connections.",
    )  # fmt: skip
    unix_mode: str | None = option(
        None, "unix-mode", "Listening",
        "Permissions of socket files, in octal, such as 660. [default: as the umask has it]",
    )  # fmt: skip
    unix_owner: str | None = option(
        None, "unix-owner", "Listening", "Owner of socket files.", metavar="USER[:GROUP]"
    )
    redirect_http: int | None = option(
        None, "redirect-http", "Listening",
        "A further port, in the clear, whose clients are sent to https; mostly 80.",
        minimum=0, maximum=65_535, metavar="PORT",
    )  # fmt: skip
    redirect_to: int | None = option(
        None, "redirect-to", "Listening",
        "Port that they are sent to, if clients see another than the one listened on.",
        minimum=1, maximum=65_535, metavar="PORT",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """Certificates and what TLS may negotiate."""

    certfile: str | None = option(
        None, "certfile", "TLS",
        "PEM file with the certificate and its chain, and the key unless --keyfile names it.",
        metavar="FILE",
    )  # fmt: skip
    keyfile: str | None = option(
        None, "keyfile", "TLS", "PEM file with the private key.", metavar="FILE"
    )
    keyfile_password: str | None = option(
        None, "keyfile-password", "TLS", "Password of the private key."
    )
    keyfile_password_file: str | None = option(
        None, "keyfile-password-file", "TLS",
        "File whose first line is the password of the private key.", metavar="FILE",
    )  # fmt: skip
    min_version: Literal["1.2", "1.3"] = option(
        "1.2", "tls-min-version", "TLS", "Lowest TLS version to accept."
    )
    engine: Literal["auto", "ssl", "pyopenssl"] = option(
        "auto", "tls-engine", "TLS",
        "What encrypts: Python's ssl, or pyOpenSSL with the OpenSSL that it brings along. auto is "
        "pyopenssl where it is installed and Python's OpenSSL is old.",
    )  # fmt: skip
    ciphers: str | None = option(
        None, "ciphers", "TLS",
        "TLS 1.2 cipher suites in OpenSSL's notation; those that RFC 9113 forbids are refused.",
    )  # fmt: skip
    named_certificates: tuple[str, ...] = option(
        (), "cert", "TLS",
        "Certificate for clients that ask for NAME, such as example.com or *.example.com; "
        "--certfile is for all others. Repeatable.",
        metavar="NAME=CERTFILE[,KEYFILE]", separator=";",
    )  # fmt: skip
    watch: bool = option(
        True, "watch-certificates", "TLS",
        "Take certificates into use when their files change.",
    )  # fmt: skip
    check_authority: bool = option(
        False, "check-authority", "TLS",
        "Answer 421 to requests for a name that the certificate of their connection does not "
        "cover.",
    )  # fmt: skip
    ca_certs: str | None = option(
        None, "ca-certs", "TLS",
        "PEM file with the authorities whose client certificates are accepted.", metavar="FILE",
    )  # fmt: skip
    cert_reqs: Literal["none", "optional", "required"] = option(
        "none", "cert-reqs", "TLS",
        "Whether clients are asked for a certificate, and turned away without one.",
    )  # fmt: skip
    crl_file: str | None = option(
        None, "crl-file", "TLS",
        "PEM file with a revocation list of every authority above a client certificate.",
        metavar="FILE",
    )  # fmt: skip
    dev_cert: bool = option(
        False, "dev-cert", "TLS",
        "Serve with a certificate for local development, made and renewed for you.",
    )  # fmt: skip
    dev_cert_names: tuple[str, ...] = option(
        (), "dev-cert-name", "TLS",
        "A further name or address that the development certificate covers. Repeatable.",
    )  # fmt: skip

    @property
    def enabled(self) -> bool:
        """Whether connections are to be TLS."""
        return self.certfile is not None or self.dev_cert
