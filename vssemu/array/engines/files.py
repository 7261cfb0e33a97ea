"""The files of LUNs: one directory each, names that the engine gives, descriptors kept open."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from vssemu.array.naming import is_lun_id
from vssemu.vss.engine import Backing
from vssemu.vss.identity import LunId

IMAGE: Final = "image"


class LunFiles:
    """The directory of LUNs' directories. Raises OSError for what the file system refuses."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[Path, int] = {}

    def path(self, lun: LunId, *names: str) -> Path:
        """Return the path of a LUN's directory, or of a file in it."""
        assert is_lun_id(lun), lun
        return self._directory.joinpath(lun, *names)

    def make(self, lun: LunId, name: str) -> int:
        """Make an empty file in the LUN's directory and return its descriptor.

        One that is there is of an earlier try, for ids are used once, and is emptied.
        """
        self.path(lun).mkdir(exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return os.open(self.path(lun, name), flags, 0o600)

    def sync(self, lun: LunId) -> None:
        """Bring the names of a LUN's files, and its own, to the disk."""
        sync_directory(self.path(lun))
        sync_directory(self._directory)

    def remove(self, lun: LunId) -> None:
        """Remove a LUN's directory with all that is in it, durably."""
        directory = self.path(lun)
        for path in [path for path in self._open if path.parent == directory]:
            self.close(path)
        with contextlib.suppress(FileNotFoundError):
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()
        sync_directory(self._directory)

    def remove_unknown(self, known: Collection[LunId]) -> list[str]:
        """Remove the directories of LUNs that are not among these; return their names."""
        names = sorted(path.name for path in self._directory.iterdir() if path.name not in known)
        for name in names:
            shutil.rmtree(self._directory / name)
        return names

    def backing(self, path: Path) -> Backing:
        """Return an open file as fabrics publish it; it stays open until `close`."""
        descriptor = self._open.get(path)
        if descriptor is None:
            descriptor = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        size = os.fstat(descriptor).st_size
        return Backing(path=str(path), is_block=False, size=size, descriptor=descriptor)

    def close(self, path: Path) -> None:
        """Close what `backing` opened, if it did."""
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def close_all(self) -> None:
        """Close all that `backing` opened."""
        for path in tuple(self._open):
            self.close(path)


@contextlib.contextmanager
def opened(path: Path | str, flags: int) -> Iterator[int]:
    """Open a file during the block."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk."""
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.fsync(directory)
