"""The fixtures of the array's rig."""

from tests.rig.array.conftest import bench, pool_directory, pytest_collection_modifyitems

__all__ = ["bench", "pool_directory", "pytest_collection_modifyitems"]
