"""What the tests of DiskShadow share."""

from pathlib import Path

import pytest

from tests.unit.tools.diskshadow.machine import Machine, component, writer


@pytest.fixture
def machine() -> Machine:
    return Machine(writers=[writer(component("ledger", "F:\\stock"))])


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
