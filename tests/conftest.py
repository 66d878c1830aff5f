from __future__ import annotations

import pytest
from hypothesis import settings

from h2asgi.banner import COMPILED

# An example that takes long says something of the machine.
settings.register_profile("h2asgi", deadline=None)
settings.load_profile("h2asgi")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if COMPILED:
        reason = "what it replaces is compiled in"
        for item in items:
            if item.get_closest_marker("interpreted"):
                item.add_marker(pytest.mark.skip(reason=reason))
