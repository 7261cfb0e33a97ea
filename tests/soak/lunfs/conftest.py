"""The fixtures of lunfs's rig."""

from tests.rig.lunfs.conftest import directory

__all__ = ["directory"]
