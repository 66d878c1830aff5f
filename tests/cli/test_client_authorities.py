"""Options for client certificates: mistakes in them are one sentence each."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_parts import Certificates

from h2asgi import tls_extension
from h2asgi.config import TLSConfig
from h2asgi.errors import ConfigurationError
from h2asgi.options import make_config
from h2asgi.tls import certificate_warnings, create_context


@pytest.fixture
def asking(certificates: Certificates) -> TLSConfig:
    pair = certificates.pair()
    return TLSConfig(
        certfile=pair.certfile,
        keyfile=pair.keyfile,
        ca_certs=certificates.ca_file,
        cert_reqs="required",
    )


def refusal(tls: TLSConfig) -> str:
    with pytest.raises(ConfigurationError) as caught:
        create_context(tls, http1=True, http2=True)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("cert_reqs", "mode"),
    [("none", ssl.CERT_NONE), ("optional", ssl.CERT_OPTIONAL), ("required", ssl.CERT_REQUIRED)],
)
def test_clients_are_asked_as_the_option_says(asking: TLSConfig, cert_reqs: Any, mode: int) -> None:
    context = create_context(replace(asking, cert_reqs=cert_reqs), http1=True, http2=True)
    assert context.verify_mode == mode
    assert not context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF


def test_a_file_without_an_authority_is_named(asking: TLSConfig, tmp_path: Path) -> None:
    assert refusal(replace(asking, ca_certs="/no/ca.pem")) == (
        "cannot read the file of authorities /no/ca.pem: No such file or directory"
    )
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    assert refusal(replace(asking, ca_certs=str(empty))) == (
        f"{empty} holds no certificate in PEM format"
    )
    assert refusal(replace(asking, ca_certs=asking.certfile)) == (
        f"{asking.certfile} holds no authority's certificate:"
        " none of its certificates may sign others"
    )


def test_a_file_without_a_revocation_list_is_named(asking: TLSConfig, tmp_path: Path) -> None:
    assert refusal(replace(asking, crl_file="/no/crl.pem")) == (
        "cannot read the revocation list /no/crl.pem: No such file or directory"
    )
    file = tmp_path / "crl.pem"
    file.write_text("nothing\n")
    assert refusal(replace(asking, crl_file=str(file))) == (
        f"{file} holds no revocation list in PEM format"
    )
    broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    file.write_text(broken)
    assert refusal(replace(asking, crl_file=str(file))) == (
        f"a revocation list in {file} cannot be read"
    )


@pytest.mark.parametrize("kind", ["CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"])
def test_certificates_beside_a_revocation_list_would_be_trusted(
    asking: TLSConfig, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "crl.pem"
    assert asking.certfile is not None
    certificate = Path(asking.certfile).read_text().replace("CERTIFICATE", kind)
    file.write_text("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n" + certificate)
    assert refusal(replace(asking, crl_file=str(file))) == (
        f"{file} holds something besides revocation lists, which --crl-file does not take"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cert_reqs": "required"}, "cert_reqs is given without a certfile"),
        (
            {"certfile": "c.pem", "cert_reqs": "optional"},
            "cert_reqs is given without ca_certs: name the authorities to trust",
        ),
        (
            {"certfile": "c.pem", "ca_certs": "ca.pem"},
            "ca_certs is given, but no client is asked for a certificate:"
            " set cert_reqs to optional or required",
        ),
        (
            {"certfile": "c.pem", "crl_file": "crl.pem"},
            "crl_file is given, but no client is asked for a certificate:"
            " set cert_reqs to optional or required",
        ),
    ],
)
def test_half_of_what_asking_takes_is_refused(options: dict[str, Any], sentence: str) -> None:
    """Or an operator would believe that clients are asked."""
    with pytest.raises(ConfigurationError) as caught:
        make_config("app:app", **options)
    assert str(caught.value) == sentence


def test_nothing_is_warned_of_when_all_is_valid(asking: TLSConfig) -> None:
    assert certificate_warnings(asking) == []


class _Negotiated:
    """A connection whose client certificate OpenSSL took, and nobody else can read."""

    server_cert = cipher_suites = None

    def version(self) -> str:
        return "TLSv1.3"

    def cipher(self) -> str:
        return "TLS_AES_128_GCM_SHA256"

    def client_certificate(self) -> bytes:
        return b"0\0"

    def client_chains(self) -> tuple[list[bytes], list[bytes]]:
        return [], []


def test_a_certificate_that_cannot_be_read_is_an_error_for_the_application(
    asking: TLSConfig,
) -> None:
    create_context(asking, http1=True, http2=True)
    negotiated: Any = _Negotiated()
    extension = tls_extension.tls_extension(negotiated)
    assert extension["client_cert_name"] is None
    assert extension["client_cert_error"] == "the subject of the certificate cannot be read"
    assert extension["client_cert_chain"] == (ssl.DER_cert_to_PEM_cert(b"0\0"),)
