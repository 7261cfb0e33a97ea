import tomllib
from typing import Any

import pytest

from tests.unit.writers.writer_support import INSTANCE_ID, Backup, document, event, failure_of
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.hresult import Hresult
from vssemu.vss.writer import EventKind, SnapshotVolume
from vssemu.writers.command import CommandWriter
from vssemu.writers.dispatch import Dispatcher
from vssemu.writers.files import Excluded, FileGroup, FilesWriter
from vssemu.writers.sqlite import SqliteWriter

CONFIG = r"""
writer_id = "{12345678-1234-4234-8234-123456789012}"
instance_name = "office"
[[group]]
name = "documents"
path = 'F:\docs'
logical_path = 'Office\Europe'
caption = "Documents"
excludes = [{ path = 'F:\docs\tmp', filespec = "*.tmp" }]
[[group]]
name = "settings"
path = "/mnt/F/etc"
filespec = "*.ini"
recursive = false
"""

MAKING = (
    EventKind.PREPARE_BACKUP,
    EventKind.PREPARE_SNAPSHOT,
    EventKind.FREEZE,
    EventKind.THAW,
    EventKind.POST_SNAPSHOT,
)


async def test_groups_from_toml_become_file_groups_in_windows_paths() -> None:
    writer = FilesWriter.from_config(tomllib.loads(CONFIG))
    outcome = await Dispatcher(writer).deliver(event(EventKind.IDENTIFY))
    metadata = WriterMetadataDocument.parse(outcome.document or "").metadata
    assert str(metadata.writer_id) == "12345678-1234-4234-8234-123456789012"
    assert metadata.instance_name == "office"
    first, second = metadata.components
    assert first.full_path == "\\Office\\Europe\\documents"
    files = first.file_sets[0]
    assert (files.path, files.filespec, files.recursive) == ("F:\\docs", "*", True)
    files = second.file_sets[0]
    assert (files.path, files.filespec, files.recursive) == ("F:\\etc", "*.ini", False)
    excluded = metadata.excludes[0]
    assert (excluded.path, excluded.filespec) == ("F:\\docs\\tmp", "*.tmp")


async def test_the_stamp_is_the_time_of_the_copy() -> None:
    writer = FilesWriter([FileGroup(name="docs", path="F:\\docs")])
    backup = Backup(Dispatcher(writer), document("docs"))
    for kind in MAKING:
        assert (await backup.send(kind)).ok
    stamp = backup.document.components(INSTANCE_ID)[0].backup_stamp
    assert stamp is not None
    # 2020-01-01 and 2100-01-01 as FILETIME
    assert 132_223_104_000_000_000 < int(stamp) < 157_469_184_000_000_000


async def test_a_chosen_group_outside_the_set_is_an_inconsistent_snapshot() -> None:
    writer = FilesWriter([FileGroup(name="docs", path="F:\\docs")])
    backup = Backup(Dispatcher(writer), document("docs"), volumes=(SnapshotVolume(volume="E:\\"),))
    assert (await backup.send(EventKind.PREPARE_BACKUP)).ok
    outcome = await backup.send(EventKind.PREPARE_SNAPSHOT)
    assert failure_of(outcome).hresult is Hresult.VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT


async def test_a_group_that_was_not_chosen_may_be_anywhere() -> None:
    writer = FilesWriter([FileGroup(name="docs", path="E:\\docs")])
    backup = Backup(Dispatcher(writer), document())
    for kind in MAKING:
        assert (await backup.send(kind)).ok


@pytest.mark.parametrize(
    "make",
    [
        lambda: FilesWriter([]),
        lambda: FilesWriter([FileGroup(name="a", path="F:\\"), FileGroup(name="a", path="E:\\")]),
        lambda: FilesWriter([FileGroup(name="a", path="docs")]),
        lambda: SqliteWriter([]),
        lambda: SqliteWriter(["orders.db"]),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(make: Any) -> None:
    with pytest.raises(InvalidArgument):
        make()


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="colour"):
        FilesWriter.from_config({"group": [{"name": "a", "path": "F:\\"}], "colour": 1})
    with pytest.raises(TypeError, match="colour"):
        SqliteWriter.from_config({"databases": ["F:\\a.db"], "colour": 1})
    with pytest.raises(TypeError, match="colour"):
        CommandWriter.from_config({"pre_freeze": ["a"], "post_thaw": ["b"], "colour": 1})


def test_excludes_are_recursive_unless_told_otherwise() -> None:
    assert Excluded(path="F:\\a").recursive
