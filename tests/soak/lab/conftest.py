"""The fixtures of the lab rig."""

from tests.rig.lab.conftest import lab, labs, own_lab, scratch, shared_lab

__all__ = ["lab", "labs", "own_lab", "scratch", "shared_lab"]
