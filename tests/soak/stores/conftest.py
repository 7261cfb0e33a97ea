"""Guests for stores."""

import pytest

from tests.soak.stores.guest import Kernel, kernel


@pytest.fixture(scope="session")
def debian() -> Kernel:
    """Return what a guest with Debian's kernel is made of; skips where it cannot be had."""
    return kernel()
