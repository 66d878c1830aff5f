"""HAProxy, Caddy, Apache, nginx and Envoy as ``deploy`` configures them, in front of h2asgi.

A load balancer and the instance behind it serve all tests of a module, since
each leaves them as they were. Tests are skipped where the program is
missing, and fail there when H2ASGI_REQUIRE_TOOLS=1 says that it should not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import balanced_app
import pytest
import trustme
from balancers import ALONE, PROGRAMS, Balancer, Recipe, Site, instance_options, issue
from serving import BackgroundServer, Certificate


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Certificate:
    """One for the load balancer and for the instances, which have a name of their own."""
    return issue(authority, tmp_path_factory.mktemp("certificate"))


Balance = Callable[..., Balancer]


@pytest.fixture(scope="module")
def balance(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Balance]:
    """Start load balancers, which end with the module: they go on asking how instances are."""
    with ExitStack() as stack:

        def start(
            recipe: Recipe, origins: Sequence[int], values: Mapping[str, str] | None = None
        ) -> Balancer:
            folder = tmp_path_factory.mktemp(recipe.program)
            balancer = PROGRAMS[recipe.program](recipe, folder, certificate, origins, values or {})
            stack.callback(balancer.stop)
            balancer.wait_until_ready()
            return balancer

        yield start


@pytest.fixture(scope="module")
def _sites() -> Iterator[dict[Recipe, Site]]:
    sites: dict[Recipe, Site] = {}
    yield sites
    for site in sites.values():
        site.origin.stop()


@pytest.fixture
def site(
    recipe: Recipe, certificate: Certificate, balance: Balance, _sites: dict[Recipe, Site]
) -> Iterator[Site]:
    if recipe not in _sites:
        options = instance_options(forwarded=recipe.forwarded)
        origin = BackgroundServer(balanced_app.app, certificate if recipe.tls else None, options)
        origin.start()
        _sites[recipe] = Site(recipe, balance(recipe, [origin.port], ALONE), origin)
    site = _sites[recipe]
    site.origin.errors.clear()
    yield site
    assert site.origin.errors == []
