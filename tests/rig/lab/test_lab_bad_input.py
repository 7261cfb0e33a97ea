"""What a host is given that it cannot use: documents, LUNs, callers, bytes."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.lab.labrig import (
    ONE,
    TWO,
    Rig,
    create,
    import_set,
    prepared,
)
from vssemu import Attribute, BackupType, Context, Hresult, ObjectType
from vssemu.api import array as array_api
from vssemu.api import device_objects, disks, registry, requester, writer
from vssemu.api.errors import decode_error
from vssemu.rpc import client as rpc
from vssemu.vss.array import LunState
from vssemu.vss.errors import (
    InvalidXmlDocument,
    NoSnapshotsImported,
    ObjectNotFound,
    SnapshotSetInProgress,
    VssError,
)
from vssemu.vss.identity import LunId

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a0 "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9))
    + ']><BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" version="1.2">&a8;'
    + "</BACKUP_COMPONENTS>"
)


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("truncated", lambda text: text[: len(text) // 2]),
        ("empty element", lambda text: "<BACKUP_COMPONENTS/>"),
        ("entity bomb", lambda text: BOMB),
        ("not XML", lambda text: "begin backup"),
        ("another root", lambda text: text.replace("BACKUP_COMPONENTS", "WRITER_METADATA")),
        ("a spoilt id", lambda text: text.replace('snapshotSetId="', 'snapshotSetId="x')),
    ],
)
def test_a_spoilt_document_is_refused_as_invalid(
    lab: Rig, what: str, spoil: Callable[[str], str]
) -> None:
    with lab.backup(ONE) as creator:
        create(creator)
        spoilt = spoil(creator.save_as_xml())
        with lab.backup(TWO) as importer:
            begun = time.monotonic()
            with pytest.raises(InvalidXmlDocument) as refused:
                import_set(importer, spoilt)
            assert time.monotonic() - begun < 5, what
            assert "\n" not in str(refused.value)
        with lab.backup(TWO) as importer:
            assert import_set(importer, creator.save_as_xml()) == Hresult.VSS_S_ASYNC_FINISHED


def test_a_document_of_100_mb_is_refused_and_the_service_lives(lab: Rig) -> None:
    with lab.vss(TWO) as vss:
        backup = vss.backup_components()
        with pytest.raises(Exception) as refused:  # noqa: PT011 - the connection may be ended
            backup.initialize_for_backup("<BACKUP_COMPONENTS>" + "x" * (100 << 20))
        assert not isinstance(refused.value, MemoryError)
    with lab.backup(ONE) as creator, lab.backup(TWO) as importer:
        create(creator)
        import_set(importer, creator.save_as_xml())


def test_a_document_of_a_set_that_is_gone_imports_nothing(lab: Rig) -> None:
    with lab.backup(ONE) as creator:
        create(creator)
        document = creator.save_as_xml()
    with lab.backup(TWO) as importer, pytest.raises(VssError) as refused:
        import_set(importer, document)
    assert refused.value.hresult in {
        Hresult.VSS_E_OBJECT_NOT_FOUND,
        Hresult.VSS_E_NO_SNAPSHOTS_IMPORTED,
    }


def test_a_document_whose_record_was_guessed_imports_nothing(lab: Rig) -> None:
    """The serial of a copy's LUN is what an attacker cannot know."""
    with lab.backup(ONE) as creator:
        create(creator)
        (copy,) = [lun for lun in lab.inventory() if lun.set_id is not None]
        document = creator.save_as_xml()
        assert copy.serial in document
        forged = document.replace(copy.serial, "0" * len(copy.serial))
        with lab.backup(TWO) as importer, pytest.raises(VssError):
            import_set(importer, forged)
        (copy,) = [lun for lun in lab.inventory() if lun.set_id is not None]
        assert copy.masked_to == ()
        assert copy.state is LunState.COMMITTED


def test_a_document_without_a_transportable_set_is_refused(lab: Rig) -> None:
    with lab.backup(ONE) as creator:
        create(creator, context=Context.BACKUP)
        document = creator.save_as_xml()
        with lab.backup(TWO) as importer, pytest.raises(VssError) as refused:
            import_set(importer, document)
    assert refused.value.hresult == Hresult.VSS_E_NONTRANSPORTABLE_BCD


def test_a_second_import_is_refused_and_the_first_one_is_not_hurt(lab: Rig) -> None:
    with lab.backup(ONE) as creator:
        made = create(creator)
        document = creator.save_as_xml()
        with lab.backup(TWO) as importer:
            import_set(importer, document)
            for host in (TWO, "systemThree", ONE):
                with lab.backup(host) as second, pytest.raises(VssError):
                    import_set(second, document)
            device = importer.get_snapshot_properties(made.copy).device_object
            assert lab.path(TWO, f"{device}/data").is_dir()
        assert not lab.path(ONE, "/run/vssemu/GLOBALROOT/Device").exists() or not list(
            lab.path(ONE, "/run/vssemu/GLOBALROOT/Device").iterdir()
        )


def test_a_second_requester_hears_that_a_set_is_in_progress(lab: Rig) -> None:
    with lab.backup(ONE) as first, lab.backup(ONE) as second:
        prepared(first)
        second.initialize_for_backup()
        second.set_context(Context.BACKUP)
        second.set_backup_state(False, False, BackupType.FULL)
        second.gather_writer_metadata()
        with pytest.raises(SnapshotSetInProgress):
            second.start_snapshot_set()
        first.abort_backup()
        # The provider hears of the dropped set by this one's BeginPrepareSnapshot.
        second.start_snapshot_set()
        second.add_to_snapshot_set("F:\\")
        second.prepare_for_backup()
        second.do_snapshot_set()


def taken_from_the_pool(lab: Rig, lun: LunId) -> None:
    """Delete a copy's LUN behind everybody's back, with its creator's rights."""
    path = lab.path(ONE, "/run/vssemu/outside/array.sock")
    (record,) = [known.information for known in lab.inventory() if known.id == lun]
    with rpc.connect(path, decode_error=decode_error) as array:
        array.call(array_api.reclaim, record)


def set_limits(lab: Rig, host: str, text: str) -> None:
    """Give a host a configuration of its own; /etc is the machine's otherwise."""
    script = f"""
        set -e
        cp -a /etc /run/etc
        mkdir -p /run/etc/vssemu
        echo '{text}' > /run/etc/vssemu/vssemu.toml
        mount --bind /run/etc /etc
    """
    lab.run(host, "bash", "-c", script)
    lab.restart_vssd(host)


def test_with_one_of_two_luns_missing_the_import_says_so_and_keeps_the_rest(
    own_lab: Callable[..., Rig],
) -> None:
    lab = own_lab("F:=128M", "G:=64M")
    set_limits(lab, TWO, "limits = { arrival = 1.5 }")
    before = lab.lun_ids()
    with lab.backup(ONE) as creator:
        made = create(creator, "F:\\", "G:\\")
        document = creator.save_as_xml()
        (record,) = creator_luns(lab, 64)
        taken_from_the_pool(lab, record)
        with lab.backup(TWO) as importer:
            outcome = import_set(importer, document)
            assert outcome == Hresult.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED
            found = importer.get_snapshot_properties(made.copies["F:\\"])
            assert Attribute.IMPORTED in found.attributes
            assert lab.path(TWO, f"{found.device_object}/lost+found").is_dir()
            with pytest.raises(ObjectNotFound):
                importer.get_snapshot_properties(made.copies["G:\\"])
            importer.delete_snapshots(found.snapshot_id, ObjectType.SNAPSHOT, False)
    assert lab.lun_ids() == before


def test_one_volume_that_cannot_come_up_leaves_its_lun_listed_until_the_clean_up(
    own_lab: Callable[..., Rig],
) -> None:
    """Two volumes; the file system of one copy is destroyed before the import."""
    lab = own_lab("F:=128M", "G:=64M")
    with lab.backup(ONE) as creator:
        made = create(creator, "F:\\", "G:\\")
        document = creator.save_as_xml()
        (spoilt,) = creator_luns(lab, 64)
        spoil_the_filesystem(lab, spoilt)
        with lab.backup(TWO) as importer:
            outcome = import_set(importer, document)
            assert outcome == Hresult.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED
            assert importer.get_snapshot_properties(made.copies["F:\\"]).device_object
        listed = json.loads(lab.run(TWO, "vssemu", "vds", "list", "disks", "--json"))
        assert [(d["id"], d["status"]) for d in listed] == [(spoilt, "import-failed")]
        assert lab.run(TWO, "vssemu", "vds", "clean-up", str(made.set_id)).split() == [spoilt]
        assert spoilt not in lab.lun_ids()


def creator_luns(lab: Rig, mib: int) -> list[LunId]:
    """Return the copies of LUNs of a size."""
    return [lun.id for lun in lab.inventory() if lun.set_id is not None and lun.size == mib << 20]


def test_with_its_only_lun_missing_nothing_is_imported(lab: Rig) -> None:
    with lab.backup(ONE) as creator:
        create(creator)
        document = creator.save_as_xml()
        (record,) = creator_luns(lab, 128)
        taken_from_the_pool(lab, record)
        with lab.backup(TWO) as importer, pytest.raises(VssError) as refused:
            import_set(importer, document)
        assert refused.value.hresult in {
            Hresult.VSS_E_NO_SNAPSHOTS_IMPORTED,
            Hresult.VSS_E_OBJECT_NOT_FOUND,
        }


def test_luns_of_a_failed_import_stay_listed_until_the_clean_up_verb_removes_them(
    own_lab: Callable[..., Rig],
) -> None:
    """The copy's volume is destroyed while its LUN is on no host, so it cannot be surfaced."""
    lab = own_lab("F:=64M")
    before = lab.lun_ids()
    with lab.backup(ONE) as creator:
        made = create(creator)
        document = creator.save_as_xml()
        spoil_the_filesystem(lab, *creator_luns(lab, 64))
        with lab.backup(TWO) as importer, pytest.raises(NoSnapshotsImported):
            import_set(importer, document)
        (left,) = lab.lun_ids() - before
        listed = json.loads(lab.run(TWO, "vssemu", "vds", "list", "disks", "--json"))
        assert [(d["id"], d["status"]) for d in listed] == [(left, "import-failed")]
        (lun,) = [known for known in lab.inventory() if known.id == left]
        assert (lun.state, lun.set_id) == (LunState.IMPORT_FAILED, made.set_id)
        removed = lab.run(TWO, "vssemu", "vds", "clean-up", str(made.set_id))
        assert removed.split() == [left]
        assert lab.lun_ids() == before
        again = lab.exec(TWO, "vssemu", "vds", "clean-up", str(made.set_id))
        assert again.returncode == 1
        assert again.stderr.count("\n") == 1
        assert "VSS_E_OBJECT_NOT_FOUND" in again.stderr


def spoil_the_filesystem(lab: Rig, lun: LunId) -> None:
    """Zero the volume's super blocks on the copy's LUN, through what the array has open."""
    (pid,) = lab.pids(None, "vssemu.daemons.arrayd")
    process = Path(f"/proc/{pid}")
    if lab.engine == "cow":  # a file of a mount that only the array has
        found = [mounted / lun for mounted in (process / "fd").iterdir()]
    else:
        found = list((process / f"root{lab.pool}/root/luns/{lun}").rglob("*"))
    (image,) = [file for file in found if file.is_file()]
    with image.open("r+b") as file:
        file.seek(1 << 20)
        file.write(bytes(8 << 20))
        os.fsync(file.fileno())


SOCKETS = ("vss.sock", "outside/array.sock", "outside/holdguard.sock", "init.sock")
GARBAGE = (
    b"",
    b"\0",
    b"\0" * 1000,
    b"{}\0",
    b"[]\0null\0",
    b'{"method": 7}\0',
    b'{"method": "io.vssemu.Requester.Open", "parameters": []}\0',
    b'{"method": "io.vssemu.Requester.NoSuch", "parameters": {}}\0',
    b"GET / HTTP/1.0\r\n\r\n",
    b"{" * 100_000 + b"\0",
    b"[" * 100_000 + b"\0",
    b"\xff\xfe" * 5000 + b"\n\0",
    os.urandom(65536) + b"\n\0",
    b"x" * (2 << 20),
)


@pytest.mark.parametrize("name", SOCKETS)
def test_garbage_on_a_socket_ends_that_connection_at_most(lab: Rig, name: str) -> None:
    path = str(lab.path(TWO, f"/run/vssemu/{name}"))
    before = lab.pids(TWO, "vssemu.daemons.vssd"), lab.pids(None, "vssemu.daemons.arrayd")
    guards = lab.pids(None, "vssemu.daemons.holdguard")
    for garbage in GARBAGE:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(path)
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                continue
    assert before == (
        lab.pids(TWO, "vssemu.daemons.vssd"),
        lab.pids(None, "vssemu.daemons.arrayd"),
    )
    assert guards == lab.pids(None, "vssemu.daemons.holdguard")
    with lab.backup(ONE) as creator, lab.backup(TWO) as importer:
        create(creator)
        import_set(importer, creator.save_as_xml())


STRANGER = """
import json, socket, sys
answers = {}
for name in json.loads(sys.argv[1]):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect('/run/vssemu/vss.sock')
        call = {'method': name, 'parameters': {}}
        connection.sendall(json.dumps(call).encode() + b'\\0')
        data = b''
        while not data.endswith(b'\\0'):
            more = connection.recv(65536)
            if not more:
                break
            data += more
        reply = json.loads(data[:-1] or b'null')
        answers[name] = reply and reply.get('parameters', {}).get('name')
print(json.dumps(answers))
"""


def test_a_user_outside_the_operators_group_is_refused_by_every_method(lab: Rig) -> None:
    tables = (
        requester.requester,
        writer.writer,
        registry.registry,
        disks.disks,
        device_objects.device_objects,
    )
    names = [method.qualified_name for table in tables for method in table.methods.values()]
    assert len(names) > 40
    command = [*("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")]
    arguments = [*command, "/usr/bin/python3", "-c", STRANGER, json.dumps(names)]
    answers = json.loads(lab.run(ONE, *arguments, cwd="/"))
    assert set(answers) == set(names)
    denied = {name for name, answer in answers.items() if answer == "E_ACCESSDENIED"}
    assert denied == set(names), {n: a for n, a in answers.items() if n not in denied}
