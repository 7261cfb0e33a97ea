"""Guests for stores, and an array."""

import pytest

from tests.rig.array.conftest import (
    directory,
    pool_size,
    process,
    pytest_collection_modifyitems,
    site,
)
from tests.soak.stores.guest import Kernel, kernel

__all__ = ["debian", "directory", "pool_size", "process", "pytest_collection_modifyitems", "site"]


@pytest.fixture(scope="session")
def debian() -> Kernel:
    """Return what a guest with Debian's kernel is made of; skips where it cannot be had."""
    return kernel()
