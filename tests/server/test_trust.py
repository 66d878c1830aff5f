"""``--forwarded-allow-ips``: who is believed, and what an operator may write."""

from __future__ import annotations

import pytest

from h2asgi.errors import ConfigurationError
from h2asgi.trust import Trusted


@pytest.mark.parametrize(
    ("texts", "believed", "others"),
    [
        ([], [], ["127.0.0.1", "::1", None]),
        (["10.0.0.5"], ["10.0.0.5", "::ffff:10.0.0.5"], ["10.0.0.6", "::10.0.0.5", None]),
        (["10.0.0.0/8"], ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["11.0.0.0", "::1"]),
        (["2001:db8::/32"], ["2001:db8::1", "2001:db8:ffff::"], ["2001:db9::1", "32.1.13.184"]),
        (["fe80::/10"], ["fe80::1%eth0", "fe80::1"], ["fec0::1%eth0"]),
        (["unix"], [None], ["127.0.0.1", "::1"]),
        (["*"], ["192.0.2.1", "2001:db8::1", None], []),
        (["10.0.0.5, unix", "::1"], ["10.0.0.5", None, "::1"], ["10.0.0.6"]),
    ],
)
def test_who_is_believed(texts, believed, others):
    trusted = Trusted(texts)
    assert all(trusted.peer(host) for host in believed)
    assert not any(trusted.peer(host) for host in others)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("10.0.0.5/8", "'10.0.0.5/8' is an address inside a network: write 10.0.0.0/8, or"),
        ("proxy.internal", "'proxy.internal' is no address: write, say, 10.0.0.5, 10.0.0.0/8,"),
        ("10.0.0.5:80", "'10.0.0.5:80' is no address"),
        ("10.0.0.*", "is no address"),
        ("10.0.0.5,,unix", "'' is no address"),
        ("10.0.0.0/33", "is no address"),
    ],
)
def test_mistakes_are_one_sentence(text, sentence):
    with pytest.raises(ConfigurationError) as caught:
        Trusted([text])
    assert str(caught.value).startswith("--forwarded-allow-ips ")
    assert sentence in str(caught.value)
