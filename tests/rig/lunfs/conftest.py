"""Fixtures: a scratch directory, shards over plain images, shards over a pool."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.rig.lunfs.lunfsrig import MIB, LunfsRig, running

SCRATCH = Path("/tmp/vssemu-lunfs")


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a directory on a disk during the block; short, for names of sockets."""
    SCRATCH.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=SCRATCH))
    yield made
    shutil.rmtree(made)
    with suppress(OSError):
        SCRATCH.rmdir()


def make_images(directory: Path) -> Path:
    """Make two images of 64 MiB, all zero: `first` and `second`; return their directory."""
    made = directory / "images"
    made.mkdir()
    for name in ("first", "second"):
        with (made / name).open("xb") as file:
            file.truncate(64 * MIB)
    return made


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a disk, for images, sockets and logs."""
    with scratch() as made:
        yield made


@pytest.fixture(scope="module")
def module_directory() -> Iterator[Path]:
    """One for all tests of a module."""
    with scratch() as made:
        yield made


@pytest.fixture
def images(directory: Path) -> Path:
    """A directory with the images `first` and `second`."""
    return make_images(directory)


@pytest.fixture
def plain(directory: Path, images: Path) -> Iterator[LunfsRig]:
    """One shard over these images: lunfs's data path alone, without snapshots."""
    with running(directory, images=images) as rig:
        yield rig
