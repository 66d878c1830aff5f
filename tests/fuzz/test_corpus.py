"""Every harness holds on its corpus, which needs no fuzzer."""

from __future__ import annotations

import os

import pytest
import targets

from h2asgi.errors import ConfigurationError


@pytest.mark.parametrize("name", targets.NAMES)
def test_corpus_holds(name: str) -> None:
    try:
        check = targets.load(name)
    except (ImportError, ConfigurationError) as error:
        if os.environ.get("H2ASGI_REQUIRE_NATIVE") == "1":
            raise
        pytest.skip(str(error))
    inputs = targets.corpus(name)
    assert inputs
    for octets in inputs:
        check(octets)
