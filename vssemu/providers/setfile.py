"""One committed snapshot set, remembered across a restart of the provider's process.

Between PostCommitSnapshots and PostFinalCommitSnapshots the service asks for the records of
the new LUNs, and asks without naming the set. The file lives in the run directory: after a
restart of the machine no creation is under way. Refuses to be written while writes are held.
"""

from pathlib import Path
from uuid import UUID

from vssemu.vss.identity import SnapshotSetId, parse_guid


class SetFile:
    """The file. path: None remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> SnapshotSetId | None:
        """Return the remembered set; None without one, or when the file is spoilt."""
        if self._path is None:
            return None
        try:
            return SnapshotSetId(parse_guid(self._path.read_text("ascii")))
        except (FileNotFoundError, ValueError):
            return None

    def write(self, set_id: UUID) -> None:
        """Remember a set. Raises OSError."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_name(f"{self._path.name}~")
            temporary.write_text(str(set_id), "ascii")
            temporary.rename(self._path)

    def clear(self) -> None:
        """Forget it; idempotent. Raises OSError."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
