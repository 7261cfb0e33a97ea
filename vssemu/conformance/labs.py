"""The lab of a test session: brought up, and taken down whatever ends the session."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vssemu.conformance.hosts import VssLab
from vssemu.conformance.machine import lacks as lacks
from vssemu.lab.config import checked_name
from vssemu.lab.description import described
from vssemu.lab.lab import Lab
from vssemu.lab.paths import LabPaths
from vssemu.linux import processes, run

KEEPER_SECONDS = 10.0


def running(name: str) -> VssLab:
    """Return a lab that somebody else brought up.

    Raises ObjectNotFound when there is none, BadState when it does not run, AccessDenied.
    """
    lab = Lab(checked_name(name))
    lab.known.check_host(lab.hosts()[0])
    return VssLab(lab)


@contextmanager
def of_session(description: Mapping[str, Any]) -> Iterator[VssLab]:
    """Bring a lab up for the block; its name is this process's alone.

    description: fields of a lab file. A process beside this one takes the lab down when this
    one is killed. Raises VssError.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    name = f"pytest-{os.getpid()}" + (f"-{worker}" if worker else "")
    wanted = described({**description, "name": name})
    lab = Lab(name)
    with _kept(name):
        try:
            lab.up(wanted)
            yield VssLab(lab)
        finally:
            lab.down()


@contextmanager
def _kept(name: str) -> Iterator[None]:
    """Have a process watch this one during the block, and take the lab down at its death."""
    me = processes.identity_of(os.getpid())
    keeper = run.spawn(
        [
            *(sys.executable, "-m", "vssemu.conformance.keeper"),
            *(name, str(me.pid), str(me.start_ticks)),
        ],
        cwd="/",
        stdout=run.DEVNULL,
        stderr=run.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        # A second interrupt may have ended the taking down: then the keeper is needed.
        if not LabPaths(name=name).state.exists():
            keeper.terminate()
            run.wait_or_kill(keeper, KEEPER_SECONDS)
