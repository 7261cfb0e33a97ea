r"""The first page: importing transportable shadow copied volumes, its nine steps.

systemOne has the data; systemTwo, a backup server, shares only the array with it.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from vssemu.api import array as array_api
from vssemu.api import disks
from vssemu.api.blocking import BackupComponents
from vssemu.api.plans import ExaminedWriter
from vssemu.lab.config import COW
from vssemu.lab.demo.data import DIRECTORIES
from vssemu.lab.demo.report import Report
from vssemu.lab.demo.stage import Stage, wait_for
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.documents import cabinet
from vssemu.vss.documents.bcd import BackupComponentsDocument
from vssemu.vss.documents.manifest import Manifest, ManifestCopy
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.enums import BackupType
from vssemu.vss.errors import Fail
from vssemu.vss.files import FilesToCopy, copied_volume, files_to_back_up
from vssemu.vss.identity import GUID_NULL, ProviderId, SnapshotId, SnapshotSetId
from vssemu.vss.snapshot import SnapshotProperties

ONE, TWO = "systemOne", "systemTwo"
DATABASE = Path("/mnt/F/orders/orders.db")
_DATA = "vssemu.lab.demo.data"
_BACKUP = "vssemu.lab.demo.backup"
_WRITERS = {
    "vssemu.writers.files:FilesWriter": "[[group]]\nname = 'documents'\npath = 'F:\\documents'\n",
    "vssemu.writers.sqlite:SqliteWriter": "databases = ['F:\\orders\\orders.db']\n",
}


@dataclass(slots=True)
class Backup:
    """What is known as the steps go on."""

    requester: BackupComponents
    writers: list[ExaminedWriter]
    set_id: SnapshotSetId
    snapshot_id: SnapshotId
    order_before: int = 0
    order_after: int = 0


HOLD, AROUND, STORE = "hold window", "order numbers committed around it", "exception store"
READ, RESTORED = "through the device object", "restored"
"""Names of facts."""


def run(stage: Stage, report: Report, *, directories: int = DIRECTORIES) -> None:
    """Walk through the nine steps. directories: of documents."""
    report.heading("Importing transportable shadow copied volumes")
    _step_1(stage, report, directories)
    with ExitStack() as stack:
        for writer in _WRITERS:
            stack.enter_context(_writer(stage, writer))
        progress = stage.work / "orders"
        stack.enter_context(stage.background(ONE, _DATA, "load", DATABASE, progress))
        wait_for(lambda: _orders(progress) > 0, "an order")
        vss_one = stack.enter_context(stage.vss(ONE))
        requester = stack.enter_context(vss_one.backup_components())
        backup = _steps_2_to_5(stage, report, requester, progress)
        _steps_6_to_8(stage, report, backup)
        _step_9(stage, report, backup)


def _step_1(stage: Stage, report: Report, directories: int) -> None:
    with report.step("1", "systemOne has a LUN of the array as F:, with data") as line:
        manifest = stage.work / "manifest.json"
        stage.module(ONE, _DATA, "fill", "/mnt/F", manifest, str(directories))
        with stage.vss(ONE) as vss:
            (disk,) = vss.client.call(disks.list_disks)
        count = len(json.loads(manifest.read_text()))
        line.say(f"{count:,} documents, a database, on {disk.lun_id}")


@contextmanager
def _writer(stage: Stage, name: str) -> Iterator[None]:
    config = stage.work / f"{name.rpartition(':')[2]}.toml"
    config.write_text(_WRITERS[name])
    arguments = (name, "--config", config)
    with stage.background(ONE, "vssemu.daemons.writer_runner", *arguments):
        yield


def _orders(progress: Path) -> int:
    text = progress.read_text().strip() if progress.exists() else ""
    return int(text) if text else 0


def _log_bytes(stage: Stage) -> int:
    """Return the size of the SQLite writer's log on systemOne."""
    listing = stage.run(ONE, "find", DATABASE.parent, "-name", "orders.db-log*", "-printf", "%s\n")
    return sum(map(int, listing.split()))


def _steps_2_to_5(
    stage: Stage, report: Report, requester: BackupComponents, progress: Path
) -> Backup:
    with report.step("2", "its requester asks the writers what they have") as line:
        requester.initialize_for_backup()
        requester.set_backup_state(
            select_components=True, bootable=False, backup_type=BackupType.FULL
        )
        wait_for(lambda: len(_subscribed(stage)) >= len(_WRITERS), "the writers")
        writers = requester.gather_writer_metadata()
        for writer in writers:
            for component in writer.components:
                requester.add_component(writer, component)
        components = sum(len(w.components) for w in writers)
        line.say(f"{len(writers)} writers, {components} components")
    with report.step("3", "SetContext: BACKUP | TRANSPORTABLE") as line:
        context = Context.BACKUP | Attribute.TRANSPORTABLE
        requester.set_context(context)
        line.say(f"0x{context:08x}")
    with report.step("4", "DoSnapshotSet, the database being written to") as line:
        set_id = requester.start_snapshot_set()
        snapshot_id = requester.add_to_snapshot_set("F:\\")
        requester.prepare_for_backup()
        backup = Backup(requester, writers, set_id, snapshot_id, order_before=_orders(progress))
        requester.do_snapshot_set()
        backup.order_after = _orders(progress)
        creation = stage.last_creation(ONE)
        hold = f"{creation['hold_seconds'] * 1000:.0f} ms"
        line.say(f"writes held for {hold}")
        report.fact(HOLD, hold)
        report.fact(AROUND, f"{backup.order_before} .. {backup.order_after}")
    with report.step("5", "the documents travel to systemTwo as a cabinet") as line:
        data = _cabinet(backup)
        (stage.work / "backup.cab").write_bytes(data)
        line.say(f"backup.cab, {len(data):,} bytes; the requester stays")
        stage.module(ONE, _DATA, "change", "/mnt/F")
    return backup


def _subscribed(stage: Stage) -> list[str]:
    with stage.vss(ONE) as vss, vss.backup_components() as probe:
        probe.initialize_for_backup()
        return [writer.name for writer in probe.gather_writer_metadata()]


def _cabinet(backup: Backup) -> bytes:
    copy = ManifestCopy(
        snapshot_id=backup.snapshot_id,
        alias="F",
        original_volume="F:\\",
        provider_id=ProviderId(GUID_NULL),
    )
    manifest = Manifest(
        snapshot_set_id=backup.set_id,
        machine_name=ONE,
        copies=(copy,),
        aliases=(("F", f"{{{backup.snapshot_id}}}"),),
        writers=tuple(writer.name for writer in backup.writers),
    )
    documents = [writer.save_as_xml() for writer in backup.writers]
    return cabinet.write(manifest, backup.requester.save_as_xml(), documents, b"")


def _steps_6_to_8(stage: Stage, report: Report, backup: Backup) -> None:
    opened = cabinet.read((stage.work / "backup.cab").read_bytes())
    with stage.vss(TWO) as vss, ExitStack() as held:
        with report.step("6", "systemTwo imports the shadow copy") as line:
            importer = held.enter_context(vss.backup_components())
            importer.initialize_for_backup(opened.bcd)
            importer.set_context(Context.ALL)
            importer.import_snapshots()
            copy = importer.get_snapshot_properties(backup.snapshot_id)
            line.say(copy.device_object)
        if stage.engine == COW:
            _say_store(stage, report)
        _back_up(stage, report, opened, copy)
        _check_restore(stage, report, copy, backup)
        with report.step("8", "releasing the interface deletes it") as line:
            held.close()
            if vss.client.call(disks.list_disks):
                raise Fail("systemTwo still has the shadow copy's LUN")
            line.say("no shadow copy, no LUN on systemTwo; it signals systemOne")


def _say_store(stage: Stage, report: Report) -> None:
    """Tell what the copy has, and kill who reads it: restic is to begin while nobody answers."""
    with stage.lab.array() as array:
        (lun,) = [one for one in array.call(array_api.inventory) if one.origin is not None]
    facts = stage.chain_facts(lun.id)
    if not facts.is_valid or facts.exceptions == 0:
        raise Fail(f"the store of the copy has nothing of what was changed: {facts}")
    size = f"{facts.store_used / 1e6:.1f} MB of {facts.store_total / 1e6:,.0f}"
    report.fact(
        STORE, f"{facts.exceptions:,} old chunks of {facts.chunk_size >> 10} KiB, {size} MB"
    )
    stage.kill_shards()


def _back_up(
    stage: Stage, report: Report, opened: cabinet.Cabinet, copy: SnapshotProperties
) -> None:
    with report.step("7", "restic backs the components up through the device object") as line:
        wanted = _files(opened, copy)
        (stage.work / "sets.json").write_bytes(msgspec.json.encode(wanted))
        names = stage.work / "files"
        found: dict[str, int] = json.loads(
            stage.module(TWO, _BACKUP, "list", stage.work / "sets.json", names)
        )
        repository = stage.work / "repository"
        _restic(stage, repository, "init")
        begun = report.now()
        _restic(stage, repository, "backup", "--files-from-raw", names)
        seconds = report.now() - begun
        speed = found["bytes"] / seconds / 1e6
        figure = f"{found['files']:,} files, {found['bytes'] / 1e6:.0f} MB, {speed:.0f} MB/s"
        line.say(figure)
        report.fact(READ, f"{figure} (restic)")


def _files(opened: cabinet.Cabinet, copy: SnapshotProperties) -> list[FilesToCopy]:
    document = BackupComponentsDocument.parse(opened.bcd)
    metadata = [WriterMetadataDocument.parse(text).metadata for text in opened.writers]
    names = [one.original_volume for one in opened.manifest.copies]
    wanted = files_to_back_up(document, metadata, [copied_volume(copy, names=names)])
    if wanted.missing:
        raise Fail(f"files that cannot be copied: {wanted.missing}")
    return list(wanted.files)


def _restic(stage: Stage, repository: Path, *arguments: str | Path) -> str:
    environment = {
        "RESTIC_REPOSITORY": str(repository),
        "RESTIC_PASSWORD": "demo",
        "RESTIC_CACHE_DIR": str(stage.work / "cache"),
        "RESTIC_PROGRESS_FPS": "0.1",
    }
    return stage.run(TWO, "restic", "--quiet", *arguments, env=environment)


def _check_restore(stage: Stage, report: Report, copy: SnapshotProperties, backup: Backup) -> None:
    with report.step("", "a restore is compared with the instant of the copy") as line:
        target = Path("/run/restored")  # memory of systemTwo; gone with it
        _restic(stage, stage.work / "repository", "restore", "latest", "--target", target)
        root = target / copy.device_object.lstrip("/")
        database = root / "orders" / "orders.db"
        result: dict[str, Any] = json.loads(
            stage.module(TWO, _BACKUP, "verify", root, stage.work / "manifest.json", database)
        )
        _judge(result, backup)
        compared = f"{result['compared']:,} files equal"
        line.say(
            f"{compared}, none of no component; "
            f"integrity_check {result['integrity']}, last order {result['last_order']}"
        )
        report.fact(RESTORED, f"{compared}, integrity_check {result['integrity']}")


def _judge(result: dict[str, Any], backup: Backup) -> None:
    """Raise Fail unless the restored data are those of the instant."""
    if result["differing"] or result["stray"]:
        raise Fail(
            f"the restore differs in {len(result['differing'])} files: {result['differing'][:3]}, "
            f"stray: {result['stray'][:3]}"
        )
    if result["integrity"] != "ok" or result["last_order"] != result["orders"]:
        raise Fail(f"the restored database is not sound: {result}")
    if not backup.order_before <= result["last_order"] <= backup.order_after + 1:
        raise Fail(f"the restored database is of another instant: {result}, {backup}")


def _step_9(stage: Stage, report: Report, backup: Backup) -> None:
    with report.step("9", "systemOne: BackupComplete; its writers truncate") as line:
        before = _log_bytes(stage)
        for writer in backup.writers:
            for component in writer.components:
                backup.requester.set_backup_succeeded(writer, component, True)
        backup.requester.backup_complete()
        backup.requester.gather_writer_status()
        after = _log_bytes(stage)
        if not before > after:
            raise Fail(f"the SQLite writer's log did not shrink: {before} -> {after} bytes")
        line.say(f"the SQLite writer's log: {before:,} -> {after:,} bytes")
