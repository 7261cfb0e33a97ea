"""Faults of a provider after a creation: import, deletion, release, break, load and unload.

What a fault cut off is done by asking again; at the end no LUN is left.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.rig.lab.conftest import Labs
from tests.rig.lab.faultrig import (
    CRASH,
    DELAY,
    FAULTY_ID,
    RAISE,
    UNDOCUMENTED,
    VETO,
    What,
    attempt,
    faults_of,
    register,
    registered,
)
from tests.rig.lab.labrig import (
    ONE,
    PERSISTENT,
    TRANSPORTABLE,
    TWO,
    Rig,
    create,
    eventually,
    import_set,
)
from tests.rig.lab.witness import Witness
from vssemu import BackupComponents, Context, HardwareOptions, Hresult, ObjectType
from vssemu.api import disks, registry
from vssemu.vss.errors import VssError
from vssemu.vss.identity import SnapshotId, SnapshotSetId

EVERY = (VETO, UNDOCUMENTED, RAISE, CRASH, DELAY)
RETRY_SECONDS = 90.0
"""What the service could not give back it tries again every 15 s."""


def both(*calls: str) -> list[str]:
    return [f"{call}{suffix}" for call in calls for suffix in ("", ".after")]


def identifier(value: object) -> str:
    return value.id if isinstance(value, What) else str(value)


def expected(point: str, what: What) -> Hresult:
    """Return the requester's code of a fault in a call whose answer counts."""
    if what is DELAY:
        return Hresult.S_OK
    return Hresult.VSS_E_PROVIDER_VETO if what is VETO else Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR


@pytest.fixture(scope="module")
def lab_of_walk(labs: Labs) -> Iterator[Rig]:
    """A lab with the faulty provider on both hosts."""
    made = labs.new()
    try:
        made.up("F:=96M")
        with registered(made, ONE, TWO):
            yield made
    finally:
        made.down()


@pytest.fixture
def rig(lab_of_walk: Rig) -> Iterator[Rig]:
    """After the test no LUN is left, nothing is armed, and both hosts still work."""
    before = lab_of_walk.lun_ids()
    yield lab_of_walk
    eventually(lambda: not any(faults_of(lab_of_walk, host).armed() for host in (ONE, TWO)))
    eventually(lambda: lab_of_walk.lun_ids() == before, seconds=RETRY_SECONDS)
    lab_of_walk.assert_writable(ONE)


def new_document(rig: Rig) -> tuple[SnapshotSetId, str]:
    """Create a persistent transportable set; return its id and its document."""
    with rig.backup(ONE) as backup:
        made = create(backup, context=PERSISTENT, provider=FAULTY_ID)
        return made.set_id, backup.save_as_xml()


@contextmanager
def administering(rig: Rig) -> Iterator[BackupComponents]:
    with rig.backup(TWO) as backup:
        backup.initialize_for_backup()
        backup.set_context(Context.ALL)
        yield backup


def imported(rig: Rig) -> SnapshotSetId:
    """Return a persistent set that was imported on systemTwo."""
    set_id, document = new_document(rig)
    with rig.backup(TWO) as backup:
        import_set(backup, document)
    return set_id


def deleted(rig: Rig, set_id: SnapshotSetId) -> Hresult:
    """Delete a set on systemTwo; return what came of it."""
    with administering(rig) as backup:
        snapshot_set = SnapshotId(set_id)
        return Hresult(
            backup.delete_snapshots(snapshot_set, ObjectType.SNAPSHOT_SET, False).hresult
        )


def code_of(act: object, *arguments: object) -> tuple[Hresult, str]:
    try:
        act(*arguments)  # type: ignore[operator]  # a method of a client
    except VssError as error:
        return error.hresult, error.fact
    return Hresult.S_OK, ""


@pytest.mark.parametrize("what", EVERY, ids=identifier)
@pytest.mark.parametrize("point", both("locate_luns", "fill_in_lun_info"))
def test_an_import(rig: Rig, point: str, what: What) -> None:
    set_id, document = new_document(rig)
    faults_of(rig, TWO).arm(what.at("provider", point))
    with rig.backup(TWO) as backup:
        code, fact = code_of(import_set, backup, document)
    ignored = point.startswith("fill_in_lun_info")
    assert code is (Hresult.S_OK if ignored else expected(point, what)), fact
    if code is not Hresult.S_OK:
        with rig.backup(TWO) as backup:
            again, fact = code_of(import_set, backup, document)
        if again is not Hresult.S_OK:
            with rig.vss(TWO) as vss:
                assert len(vss.client.call(disks.clean_up, set_id)) == 1, fact
            return
    assert deleted(rig, set_id) is Hresult.S_OK


@pytest.mark.parametrize("what", EVERY, ids=identifier)
@pytest.mark.parametrize("point", both("fill_in_lun_info", "on_lun_empty"))
def test_a_deletion(rig: Rig, point: str, what: What) -> None:
    set_id = imported(rig)
    faults_of(rig, TWO).arm(what.at("provider", point))
    code = deleted(rig, set_id)
    assert code is expected(point, what)
    if code is not Hresult.S_OK:
        assert deleted(rig, set_id) is Hresult.S_OK


@pytest.mark.parametrize("what", EVERY, ids=identifier)
@pytest.mark.parametrize("point", both("fill_in_lun_info", "on_lun_empty"))
@pytest.mark.parametrize("context", [TRANSPORTABLE, Context.BACKUP])
def test_a_release(rig: Rig, context: int, point: str, what: What) -> None:
    with rig.backup(ONE) as backup:
        create(backup, context=context, provider=FAULTY_ID)
        faults_of(rig).arm(what.at("provider", point))


@pytest.mark.parametrize("what", EVERY, ids=identifier)
@pytest.mark.parametrize("point", both("on_lun_state_change"))
def test_a_masking(rig: Rig, point: str, what: What) -> None:
    set_id, document = new_document(rig)
    with rig.backup(TWO) as backup:
        import_set(backup, document)
    faults_of(rig, TWO).arm(what.at("provider", point))
    with administering(rig) as backup:
        code, fact = code_of(backup.break_snapshot_set_ex, set_id, HardwareOptions.MASK_LUNS)
    assert code is expected(point, what), fact
    if code is Hresult.S_OK:
        with rig.backup(TWO) as backup:
            import_set(backup, document)
    assert deleted(rig, set_id) is Hresult.S_OK


@pytest.mark.parametrize("what", [VETO, UNDOCUMENTED, RAISE, CRASH], ids=identifier)
@pytest.mark.parametrize("point", both("on_load"))
def test_a_load(rig: Rig, point: str, what: What) -> None:
    rig.kill(ONE, "vssemu.daemons.provider_runner")
    faults_of(rig).arm(what.at("provider", point))
    made = attempt(rig, Witness(), context=TRANSPORTABLE)
    assert made.code is expected(point, what), made.fact
    made = attempt(rig, Witness(), context=TRANSPORTABLE)
    assert made.code is Hresult.S_OK, made.fact


@pytest.mark.parametrize("what", EVERY, ids=identifier)
@pytest.mark.parametrize("point", both("on_unload"))
def test_an_unload(rig: Rig, point: str, what: What) -> None:
    assert attempt(rig, Witness(), context=TRANSPORTABLE).code is Hresult.S_OK
    faults_of(rig).arm(what.at("provider", point))
    with rig.vss(ONE) as vss:
        vss.client.call(registry.unregister_provider, FAULTY_ID)
        register(vss.client)
    made = attempt(rig, Witness(), context=TRANSPORTABLE)
    assert made.code is Hresult.S_OK, made.fact


@pytest.mark.parametrize("what", EVERY, ids=identifier)
@pytest.mark.parametrize("point", both("abort_snapshots"))
def test_an_abort(rig: Rig, point: str, what: What) -> None:
    faults_of(rig).arm(VETO.at("provider", "commit_snapshots.after"))
    faults_of(rig).arm(what.at("provider", point))
    made = attempt(rig, Witness(), context=TRANSPORTABLE)
    assert made.code is Hresult.VSS_E_PROVIDER_VETO, made.fact
    if what in (UNDOCUMENTED, RAISE):
        # Such a code means nothing: the provider drops the set at the next one's Begin.
        made = attempt(rig, Witness(), context=TRANSPORTABLE)
        assert made.code is Hresult.S_OK, made.fact
