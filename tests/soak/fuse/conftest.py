"""The fixtures of the devicefs rig, and labs."""

from tests.rig.fuse.conftest import daemon, pytest_collection_modifyitems, raw, rig
from tests.rig.lab.conftest import labs, scratch

__all__ = ["daemon", "labs", "pytest_collection_modifyitems", "raw", "rig", "scratch"]
