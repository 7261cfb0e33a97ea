"""`vssemu doctor`: what the cow engine needs is told, and no lab of the other one is refused."""

import errno
import json
import os
from typing import Any

import pytest
from click.testing import CliRunner

from vssemu.linux import aio, fuse
from vssemu.tools.main import main


def found() -> tuple[dict[str, dict[str, Any]], int]:
    """Return what the doctor found, by what, and its exit status."""
    done = CliRunner().invoke(main, ["doctor", "--json"])
    return {each["what"]: each for each in json.loads(done.stdout)}, done.exit_code


def test_what_the_cow_engine_lacks_is_told_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_depth: int) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    _, before = found()
    monkeypatch.setattr(aio, "Context", none_left)
    monkeypatch.setattr(fuse, "kernel_resends", lambda: False)
    lacking, after = found()
    for what, mend in (("native AIO", "aio-max-nr"), ("lunfs survives kills", "6.9")):
        finding = lacking[f"engine cow: {what}"]
        assert not finding["ok"]
        assert os.geteuid() != 0 or mend in finding["mend"]
    assert after == before, "labs run without it"


def test_a_machine_with_native_aio_has_it() -> None:
    before, _ = found()
    assert before["engine cow: native AIO"]["ok"]
    assert "requests taken" in before["engine cow: native AIO"]["fact"]
