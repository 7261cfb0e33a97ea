"""Scripts that the tests of DiskShadow share."""

from pathlib import Path

PERSISTENT = ("set context persistent", "begin backup", "add volume F: alias data")
NOTE = "Note: END BACKUP was not commanded, writers not notified BackupComplete."


def set_metadata(work: Path) -> str:
    return f"set metadata {work}/db.cab"


def creates(work: Path, *more: str) -> tuple[str, ...]:
    return ("set context persistent", *more, set_metadata(work), *PERSISTENT[1:], "create")
