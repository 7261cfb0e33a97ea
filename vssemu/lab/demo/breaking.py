"""The second page: breaking shadow copies.

A persistent set is imported on systemTwo and broken: VSS forgets it, its LUN stays. Through
what VDS is on Windows it becomes an ordinary read/write volume, and then goes to a third host.
"""

from pathlib import Path

from vssemu.api import disks
from vssemu.api.blocking import Vss
from vssemu.lab.demo.report import Report
from vssemu.lab.demo.stage import Stage
from vssemu.vss.attributes import Attribute, Context
from vssemu.vss.enums import BackupType
from vssemu.vss.errors import Fail
from vssemu.vss.identity import Initiator, LunId
from vssemu.vss.snapshot import SnapshotProperties

ONE, TWO, THREE = "systemOne", "systemTwo", "systemThree"
_LETTER = "G:\\"
_MARK = "written-on-systemTwo"


def run(stage: Stage, report: Report) -> None:
    """Create, import, break, make read/write, move to the third host."""
    report.heading("Breaking shadow copies")
    document = _create(stage, report)
    with stage.vss(TWO) as vss:
        copy = _import_and_break(stage, report, vss, document)
        lun = _make_writable(stage, report, vss, copy)
        _move(stage, report, vss, lun)


def _create(stage: Stage, report: Report) -> str:
    with report.step("a", "systemOne makes a persistent set; its requester leaves") as line:
        with stage.vss(ONE) as vss, vss.backup_components() as requester:
            requester.initialize_for_backup()
            requester.set_backup_state(
                select_components=False, bootable=False, backup_type=BackupType.COPY
            )
            requester.set_context(Context.APP_ROLLBACK | Attribute.TRANSPORTABLE)
            requester.gather_writer_metadata()
            set_id = requester.start_snapshot_set()
            requester.add_to_snapshot_set("F:\\")
            requester.prepare_for_backup()
            requester.do_snapshot_set()
            document = requester.save_as_xml()
        line.say(f"set {{{set_id}}}")
    return document


def _import_and_break(stage: Stage, report: Report, vss: Vss, document: str) -> SnapshotProperties:
    with report.step("b", "systemTwo imports it and breaks it") as line:
        with vss.backup_components() as requester:
            requester.initialize_for_backup(document)
            requester.set_context(Context.ALL)
            requester.import_snapshots()
            (copy,) = requester.query()
            requester.break_snapshot_set(copy.snapshot_set_id)
            if requester.query():
                raise Fail("VSS still knows the broken set")
        line.say("VSS knows it no more")
    with report.step("c", "the device object still reads") as line:
        listing = stage.run(TWO, "ls", Path(copy.device_object) / "documents").split()
        line.say(f"{len(listing)} directories below {copy.device_object}")
    return copy


def _make_writable(stage: Stage, report: Report, vss: Vss, copy: SnapshotProperties) -> LunId:
    with report.step("d", "vds: read/write, a letter, and a file is written") as line:
        (volume,) = vss.client.call(disks.list_volumes)
        vss.client.call(disks.make_read_write, volume.name)
        place = vss.client.call(disks.add_access_path, volume.name, _LETTER)
        stage.run(TWO, "touch", f"/mnt/G/{_MARK}")
        stage.run(TWO, "sync", "-f", "/mnt/G")
        line.say(f"{place} on systemTwo")
    return volume.luns[0].lun_id


def _move(stage: Stage, report: Report, vss: Vss, lun: LunId) -> None:
    with report.step("e", "masked from systemTwo, unmasked to systemThree, mounted") as line:
        vss.client.call(disks.mask, lun)
        vss.client.call(disks.unmask, lun, Initiator(THREE))
        if vss.client.call(disks.list_disks):
            raise Fail("systemTwo still has the LUN")
        with stage.vss(THREE) as third:
            third.client.call(disks.rescan)
            (volume,) = third.client.call(disks.list_volumes)
            place = third.client.call(disks.add_access_path, volume.name, _LETTER)
        stage.run(THREE, "test", "-e", f"/mnt/G/{_MARK}")
        line.say(f"{lun} is {place} on systemThree, with what systemTwo wrote")
