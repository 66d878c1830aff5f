"""An authority for client certificates, and a certificate of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

DAY = timedelta(days=1)


@dataclass(frozen=True)
class ClientCertificate:
    """``file`` holds key and chain in PEM; ``chain`` the certificates alone, the leaf first."""

    file: str
    chain: tuple[str, ...]


class ClientAuthority:
    """Files of one authority: ``ca_file``, ``crl_file`` and what ``issue`` makes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.ca_file = str(folder / "client-ca.pem")
        self.crl_file = str(folder / "client-crl.pem")
        self._authority.cert_pem.write_to_path(self.ca_file)
        self._kinds = {
            "good": self._issue("good", self._authority),
            "expired": self._issue("expired", self._authority, end=-DAY),
            "revoked": self._issue("revoked", self._authority),
            "foreign": self._issue("foreign", trustme.CA()),
        }
        self.revoke("revoked")

    def __getitem__(self, kind: str) -> ClientCertificate:
        return self._kinds[kind]

    def issue_below(self, name: str) -> ClientCertificate:
        """A certificate of an authority that ours has certified, with the chain up to it."""
        return self._issue(name, self._authority.create_child_ca())

    def revoke(self, *kinds: str, end: timedelta = DAY) -> str:
        """Write the revocation list anew; give its path."""
        now = datetime.now(UTC)
        issuer = x509.load_pem_x509_certificate(self._authority.cert_pem.bytes())
        key = load_pem_private_key(self._authority.private_key_pem.bytes(), None)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(now - 2 * DAY)
            .next_update(now + end)
        )
        for kind in kinds:
            leaf = x509.load_pem_x509_certificate(self._kinds[kind].chain[0].encode())
            entry = x509.RevokedCertificateBuilder().serial_number(leaf.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now - DAY).build())
        pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        Path(self.crl_file).write_bytes(pem)
        return self.crl_file

    def _issue(self, name: str, authority: trustme.CA, end: timedelta = DAY) -> ClientCertificate:
        now = datetime.now(UTC)
        leaf = authority.issue_cert(
            f"{name}@example.org",
            common_name=f"{name}, client",
            organization_name="Example",
            organization_unit_name="Clients",
            not_before=now - 3 * DAY,
            not_after=now + end,
        )
        file = self._folder / f"{name}.pem"
        leaf.private_key_and_cert_chain_pem.write_to_path(str(file))
        chain = tuple(pem.bytes().decode() for pem in leaf.cert_chain_pems)
        return ClientCertificate(str(file), chain)
