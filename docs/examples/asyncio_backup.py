r"""A transported backup in an asyncio program: `python asyncio_backup.py LAB TARGET`.

Two hosts of a running lab (`vssemu lab up --name LAB --volume F:=1G`) work side by side, each
in a task of its own. systemOne makes a transportable shadow copy of F: and hands its document
over; systemTwo imports the copy, puts what is in F:\data into the directory TARGET and
deletes the copy; then systemOne tells its writers that the backup is complete.

vssemu's own asynchronous client is for trio. asyncio uses the blocking one: every call runs in
a thread, so that the event loop goes on meanwhile. A connection takes one call at a time.
"""

import asyncio
import shutil
import sys
from pathlib import Path

import vssemu
from vssemu import Attribute, BackupComponents, BackupType, Context, ObjectType
from vssemu.lab.enter import inside
from vssemu.lab.paths import LabPaths

PRODUCTION, BACKUP = "systemOne", "systemTwo"


async def back_up(lab: str, target: Path) -> int:
    """Carry the backup out; return how many files were copied. Raises VssError."""
    document: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    is_copied = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(make_copy(lab, document, is_copied))
        copying = tasks.create_task(copy_files(lab, document, is_copied, target))
    return copying.result()


async def make_copy(lab: str, document: asyncio.Future[str], is_copied: asyncio.Event) -> None:
    """Be the requester on the production host until its files are safe."""
    with (
        await asyncio.to_thread(vssemu.connect, lab=lab, host=PRODUCTION) as vss,
        await asyncio.to_thread(vss.backup_components) as backup,
    ):
        document.set_result(await asyncio.to_thread(created, backup))
        await is_copied.wait()
        await asyncio.to_thread(backup.backup_complete)


def created(backup: BackupComponents) -> str:
    """Make the shadow copy, writers and all; return the Backup Components Document."""
    backup.initialize_for_backup()
    backup.set_context(Context.BACKUP | Attribute.TRANSPORTABLE)
    backup.set_backup_state(False, False, BackupType.FULL)
    backup.gather_writer_metadata()
    backup.start_snapshot_set()
    backup.add_to_snapshot_set("F:\\")
    backup.prepare_for_backup()
    backup.do_snapshot_set()
    return backup.save_as_xml()


async def copy_files(
    lab: str, document: asyncio.Future[str], is_copied: asyncio.Event, target: Path
) -> int:
    """Be the requester on the backup host: import, copy, delete, and say so."""
    with (
        await asyncio.to_thread(vssemu.connect, lab=lab, host=BACKUP) as vss,
        await asyncio.to_thread(vss.backup_components) as backup,
    ):
        await asyncio.to_thread(backup.initialize_for_backup, await document)
        await asyncio.to_thread(backup.set_context, Context.ALL)
        importing = await asyncio.to_thread(backup.import_snapshots.begin)
        while await asyncio.to_thread(importing.wait, 1.0) == vssemu.Hresult.VSS_S_ASYNC_PENDING:
            print("still importing")
        (copy,) = await asyncio.to_thread(backup.query)
        tree = inside(LabPaths(name=lab), BACKUP, f"{copy.device_object}/data")
        await asyncio.to_thread(shutil.copytree, tree, target)
        await asyncio.to_thread(
            backup.delete_snapshots, copy.snapshot_id, ObjectType.SNAPSHOT, False
        )
        is_copied.set()
    return await asyncio.to_thread(files_below, target)


def files_below(directory: Path) -> int:
    """Return how many files there are at all depths."""
    return sum(each.is_file() for each in directory.rglob("*"))


if __name__ == "__main__":
    print(asyncio.run(back_up(sys.argv[1], Path(sys.argv[2]))), "files")
