"""Labs for the tests, and at the end the count of what they left on the machine."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig.lab.labrig import ENGINE, HOSTS, ONE, Rig, eventually, fill, left_of
from vssemu.lab.waiting import until
from vssemu.linux import cgroup

RUN = f"t{os.getpid()}"
"""Begins the name of every lab of this run."""


class Labs:
    """Makes labs with names of this run, and knows them all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[Rig] = []

    def new(self, *, pool: bool = False, engine: str = ENGINE) -> Rig:
        """Return a lab that is not up. pool: give it a named one, which outlives it."""
        name = f"{RUN}-{len(self.made)}"
        directory = self.root / f"pool-{name}" if pool else None
        if directory is not None:
            directory.mkdir()
        rig = Rig(name, pool=directory, engine=engine)
        self.made.append(rig)
        return rig


@pytest.fixture(scope="session")
def labs() -> Iterator[Labs]:
    """The labs of this run. What any of them left is counted here and fails the run."""
    # Not below pytest's own directory: hosts read and write here, some as another user.
    root = Path(tempfile.mkdtemp(prefix="vssemu-rig-"))
    root.chmod(0o755)
    known = Labs(root)
    yield known

    def leftovers() -> list[str]:
        return [line for rig in known.made for line in left_of(rig.name, sorted(rig.seen_luns))]

    until(lambda: not leftovers(), seconds=10)
    left = leftovers()
    base = cgroup.find_cgroup2()
    if base is not None:
        left += [f"control group {group}" for group in base.glob(f"vssemu-{RUN}-*")]
    if not left:
        # A lab that did not go is taken down by what its pool's journal knows.
        shutil.rmtree(root)
    assert not left, "the labs left:\n" + "\n".join(dict.fromkeys(left))


@pytest.fixture(scope="session")
def shared_lab(labs: Labs) -> Iterator[Rig]:
    """One lab with three hosts; systemOne has F: with a tree in F:\\data, and G:."""
    rig = labs.new()
    try:
        rig.up("F:=128M", "G:=64M", hosts=HOSTS)
        fill(rig.path(ONE, "/mnt/F/data"))
        fill(rig.path(ONE, "/mnt/G/data"), files=5)
        yield rig
    finally:
        rig.down()


@pytest.fixture
def lab(shared_lab: Rig) -> Iterator[Rig]:
    """The lab that all tests share; a test leaves its LUNs and its writers as they were."""
    before = shared_lab.lun_ids()
    yield shared_lab
    eventually(lambda: shared_lab.lun_ids() == before)


@pytest.fixture
def own_lab(labs: Labs) -> Iterator[Callable[..., Rig]]:
    """Makes labs of this test alone: `own_lab("F:=64M", hosts=..., pool=True)`."""
    mine: list[Rig] = []

    def make(*volumes: str, pool: bool = False, engine: str = ENGINE, **options: object) -> Rig:
        rig = labs.new(pool=pool, engine=engine)
        mine.append(rig)
        rig.up(*volumes, **options)  # type: ignore[arg-type]  # hosts alone
        return rig

    yield make
    for rig in mine:
        rig.down()


@pytest.fixture
def scratch(labs: Labs) -> Iterator[Path]:
    """A directory that the machine and all hosts share."""
    directory = Path(tempfile.mkdtemp(dir=labs.root))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)
