"""Labs are root's: everybody else hears that, and not what he cannot see."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

import vssemu
from vssemu.lab.config import LabConfig
from vssemu.lab.growth import Growth
from vssemu.lab.lab import Lab
from vssemu.lab.status import all_labs
from vssemu.vss.errors import AccessDenied

METHODS: dict[str, Callable[[Lab], Any]] = {
    "up": lambda lab: lab.up(LabConfig(name="of-nobody")),
    "add": lambda lab: lab.add(Growth(hosts=("systemThree",))),
    "remove_host": lambda lab: lab.remove_host("systemOne"),
    "remove_volumes": lambda lab: lab.remove_volumes(None, ["F"]),
    "recorded": Lab.recorded,
    "hosts": Lab.hosts,
    "all labs": lambda _: all_labs(),
    "connect": lambda lab: vssemu.connect(lab=lab.paths.name, host="systemOne"),
    "down": Lab.down,
    "status": Lab.status,
    "execute": lambda lab: lab.execute("systemOne", ["true"]),
    "logs": Lab.logs,
    "power_off": lambda lab: lab.power_off("systemOne"),
    "start": lambda lab: lab.start("systemOne"),
    "array": lambda lab: ExitStack().enter_context(lab.array()),
}


@pytest.mark.parametrize("method", METHODS)
def test_an_ordinary_user_is_refused(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not readable for him would else be told as what is not there."""
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    monkeypatch.setattr("vssemu.lab.root.unseen_programs", list)
    with pytest.raises(AccessDenied):
        METHODS[method](Lab("of-nobody"))
