from __future__ import annotations

import pytest

from h2asgi import exchanges

COMPILED = not exchanges.__file__.endswith(".py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if COMPILED:
        reason = "what it replaces is compiled in"
        for item in items:
            if item.get_closest_marker("interpreted"):
                item.add_marker(pytest.mark.skip(reason=reason))
