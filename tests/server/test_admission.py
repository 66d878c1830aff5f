"""Places for connections: in all, for one address, and how many there are by default."""

from __future__ import annotations

import pytest

from h2asgi import admission
from h2asgi.admission import Admission, client_of, default_limit


def never_called() -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("descriptors", "limit"),
    [(1024, 768), (256, 192), (20_000, 10_000), (1_048_576, 10_000)],
)
def test_the_default_leaves_a_quarter_of_the_descriptors(monkeypatch, descriptors, limit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (descriptors, descriptors))
    assert default_limit() == limit


def test_the_default_without_a_limit_of_descriptors(monkeypatch):
    resource = pytest.importorskip("resource")
    infinity = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda which: infinity)
    assert default_limit() == admission.MAX_CONNECTIONS


def test_full_until_somebody_leaves():
    left = []
    admission = Admission(2, None, lambda: left.append(admission.full))
    first, _ = admission.enter("192.0.2.1"), admission.enter(None)
    assert admission.full
    first.leave()
    assert left == [False]
    first.leave()  # again, as when a handshake fails while its connection is lost
    assert left == [False]
    assert admission.enter("192.0.2.1")
    assert admission.full


def test_one_address_has_its_share_and_no_more():
    admission = Admission(100, 2, lambda: None)
    places = [admission.enter("192.0.2.1") for _ in range(3)]
    assert places[2] is None
    assert admission.enter("192.0.2.2")
    places[0].leave()
    assert admission.enter("192.0.2.1")
    assert admission.enter("192.0.2.1") is None


def test_clients_without_an_address_have_no_share():
    admission = Admission(100, 1, never_called)
    assert all(admission.enter(None) for _ in range(5))


def test_what_is_counted_by_address_is_forgotten_with_the_last_connection():
    admission = Admission(100, 2, lambda: None)
    for place in [admission.enter(f"192.0.2.{host}") for host in range(50)]:
        place.leave()
    assert admission._by_client == {}


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1:2:3", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_an_ipv6_subnet_counts_as_one_client(host, client):
    assert client_of(host) == client
