"""The fixtures of the devicefs rig."""

from tests.rig.fuse.conftest import pytest_collection_modifyitems, raw, rig

__all__ = ["pytest_collection_modifyitems", "raw", "rig"]
