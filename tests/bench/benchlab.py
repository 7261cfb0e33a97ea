"""A lab of a bench's own, and a set's way from its creator to its importer."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vssemu.api import blocking
from vssemu.api.blocking import BackupComponents
from vssemu.lab import enter
from vssemu.lab.config import LabConfig, VolumeSpec
from vssemu.lab.lab import Lab
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.enums import BackupType
from vssemu.vss.identity import SnapshotId

ONE, TWO = "systemOne", "systemTwo"
MIB = 1 << 20
TRANSPORTABLE = Context.BACKUP | Attribute.TRANSPORTABLE


@contextmanager
def running(*volumes: VolumeSpec) -> Iterator[Lab]:
    """Run a lab of two hosts during the block; without volumes, with a small F:."""
    lab = Lab("bench")
    lab.down()
    try:
        lab.up(
            LabConfig(name="bench", volumes=volumes or (VolumeSpec(letter="F", size=64 * MIB),))
        )
        yield lab
    finally:
        lab.down()


def connect(lab: Lab, host: str) -> blocking.Vss:
    """Return a client of a host's service; the interpreter's start is no part of a figure."""
    return blocking.connect(enter.inside(lab.paths, host, "/run/vssemu/vss.sock"))


def create(
    backup: BackupComponents, context: int = TRANSPORTABLE, *, volumes: Sequence[str] = ("F:\\",)
) -> SnapshotId:
    """Create a set, of F: alone when none is named; return its last shadow copy."""
    backup.initialize_for_backup()
    backup.set_backup_state(select_components=False, bootable=False, backup_type=BackupType.COPY)
    backup.set_context(context)
    with_writers = not context & Attribute.NO_WRITERS
    if with_writers:
        backup.gather_writer_metadata()
    backup.start_snapshot_set()
    for volume in volumes:
        snapshot = backup.add_to_snapshot_set(volume)
    if with_writers:
        backup.prepare_for_backup()
    backup.do_snapshot_set()
    return snapshot


def import_set(backup: BackupComponents, document: str) -> None:
    """Import the set of a document."""
    backup.initialize_for_backup(document)
    backup.set_context(Context.ALL)
    backup.import_snapshots()


def tree_of(lab: Lab, host: str, device_object: str) -> Path:
    """Return a device object as the machine reaches it."""
    return enter.inside(lab.paths, host, device_object)


def last_hold(lab: Lab) -> float:
    """Return how long writes were held in the last creation on systemOne, in seconds."""
    log = lab.paths.host_state(ONE) / "var/events.jsonl"
    for line in reversed(log.read_text().splitlines()):
        if (event := json.loads(line))["kind"] == "creation":
            return float(event["hold_seconds"])
    raise AssertionError(f"{log} has no creation")
