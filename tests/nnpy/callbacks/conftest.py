"""Fixtures of the tests of callbacks."""

import pytest


@pytest.fixture
def data(rng):
    return rng.normal(size=(20, 5)), rng.normal(size=(20, 2))
