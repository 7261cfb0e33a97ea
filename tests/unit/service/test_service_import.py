"""Import on the other host, use, deletion, break, exposure, the ends of sessions."""

from typing import Any

import pytest

from vssemu.api import requester as table
from vssemu.service.catalog import SetStatus
from vssemu.vss.attributes import Attribute
from vssemu.vss.enums import ObjectType, ProviderType
from vssemu.vss.errors import (
    BadState,
    InvalidArgument,
    InvalidXmlDocument,
    MissingVolume,
    NonTransportableBcd,
    NoSnapshotsImported,
    NotSupportedHere,
    ObjectAlreadyExists,
    ObjectNotFound,
    ProviderNotRegistered,
    ProviderVeto,
    UnsupportedContext,
)
from vssemu.vss.hresult import Hresult
from vssemu.vss.provider import ProviderFailure

PERSISTENT = 0x29
AUTO_RELEASE = 0x20


async def document_of(one: Any, *volumes: Any, context: Any = AUTO_RELEASE) -> Any:
    """Create a transportable set; return its requester, the copies' ids and the document."""
    requester = await one.requester()
    ids = await requester.created(*volumes, context=context)
    return requester, ids, await requester.call(table.save_as_xml)


async def importer(two: Any, document: Any, context: Any = 0xFFFFFFFF) -> Any:
    requester = await two.requester()
    await requester.call(table.initialize_for_backup, document)
    await requester.call(table.set_context, context)
    return requester


async def test_an_imported_set_keeps_its_ids_and_says_where_it_comes_from(
    one: Any, two: Any
) -> None:
    _, ids, document = await document_of(one, "F:\\", "G:\\")
    backup = await importer(two, document)
    two.journal.clear()
    assert await backup.done(table.import_snapshots) == Hresult.VSS_S_ASYNC_FINISHED
    provider = [line for line in two.journal if line.startswith("provider")]
    assert provider == [
        "provider: LocateLuns",
        "provider: FillInLunInfo",
        "provider: FillInLunInfo",
    ]
    assert two.journal.index("host: rescan") > two.journal.index("provider: LocateLuns")
    found = await backup.call(table.query)
    assert [copy.snapshot_id for copy in found] == ids
    for copy in found:
        assert copy.originating_machine == copy.service_machine == "systemOne"
        wanted = Attribute.IMPORTED | Attribute.NOT_SURFACED | Attribute.TRANSPORTABLE
        assert wanted & ~copy.attributes == 0
        assert copy.device_object.startswith("/run/")
        assert copy.device_object in two.host.properties[copy.snapshot_id]
    writers = [line for line in two.journal if line.startswith("files")]
    assert writers == []


async def test_a_set_is_imported_once_here_and_once_anywhere(one: Any, two: Any) -> None:
    _, _, document = await document_of(one, "F:\\", context=PERSISTENT)
    await (await importer(two, document)).done(table.import_snapshots)
    with pytest.raises(ObjectAlreadyExists):
        await (await importer(two, document)).done(table.import_snapshots)
    assert two.host.failed == {}
    with pytest.raises(ProviderVeto, match="claimed before"):
        await (await importer(one, document)).done(table.import_snapshots)
    assert one.host.failed == {}


async def test_an_import_after_a_break_is_refused_and_leaves_the_broken_lun_alone(
    one: Any, two: Any
) -> None:
    _, ids, document = await document_of(one, "F:\\", context=PERSISTENT)
    backup = await importer(two, document)
    await backup.done(table.import_snapshots)
    (copy,) = await backup.call(table.query)
    await backup.call(table.break_snapshot_set, copy.snapshot_set_id)
    with pytest.raises(ObjectAlreadyExists):
        await (await importer(two, document)).done(table.import_snapshots)
    assert two.host.failed == {}
    assert two.host.released == set(ids)


async def test_a_missing_lun_gives_a_partial_import_and_a_success_code(one: Any, two: Any) -> None:
    _, ids, document = await document_of(one, "F:\\", "G:\\")
    hidden = next(iter(one.array.copies))
    two.host.hide.add(hidden)
    backup = await importer(two, document)
    code = await backup.done(table.import_snapshots)
    assert code == Hresult.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED
    assert [copy.snapshot_id for copy in await backup.call(table.query)] == ids[1:]
    assert two.host.failed == {}


async def test_a_lun_that_does_not_match_its_record_is_listed_as_a_failed_import(
    one: Any, two: Any
) -> None:
    _, ids, document = await document_of(one, "F:\\", "G:\\")
    real = two.host.surface

    async def surface(copy: Any) -> Any:
        if copy.snapshot_id == ids[0]:
            raise MissingVolume("no such partition")
        return await real(copy)

    two.host.surface = surface
    backup = await importer(two, document)
    code = await backup.done(table.import_snapshots)
    assert code == Hresult.VSS_S_SOME_SNAPSHOTS_NOT_IMPORTED
    assert list(two.host.failed) == [next(iter(one.array.copies))]


async def test_when_nothing_arrives_the_import_fails_and_the_luns_stay(one: Any, two: Any) -> None:
    requester, _, document = await document_of(one, "F:\\")
    two.host.hide |= set(one.array.copies)
    backup = await importer(two, document)
    with pytest.raises(NoSnapshotsImported):
        await backup.done(table.import_snapshots)
    assert two.service.parts.catalog.sets() == []
    assert len(one.array.copies) == 1
    assert requester.set_id


async def test_what_arrived_of_a_failed_import_is_listed_under_the_set(one: Any, two: Any) -> None:
    requester, _, document = await document_of(one, "F:\\")
    two.host.give_new_identity = broken
    backup = await importer(two, document)
    with pytest.raises(ProviderVeto):
        await backup.done(table.import_snapshots)
    assert set(two.host.failed.values()) == {requester.set_id}
    assert two.host.objects == {}


async def broken(*_: Any) -> None:
    raise ProviderVeto("cannot")


async def test_documents_that_cannot_be_imported_get_their_codes(one: Any, two: Any) -> None:
    requester = await two.requester()
    with pytest.raises(InvalidXmlDocument):
        await requester.call(table.initialize_for_backup, "<BACKUP")
    plain = await one.requester()
    await plain.prepared("F:\\", context=0)
    await plain.done(table.do_snapshot_set)
    document = await plain.call(table.save_as_xml)
    with pytest.raises(NonTransportableBcd):
        await (await importer(two, document)).done(table.import_snapshots)
    _, _, transportable = await document_of(one, "G:\\")
    await two.service.parts.providers.unregister(two.provider_id, [])
    with pytest.raises(ProviderNotRegistered):
        await (await importer(two, transportable)).done(table.import_snapshots)


async def test_releasing_the_importer_deletes_an_auto_release_set_and_its_luns(
    one: Any, two: Any
) -> None:
    _, _, document = await document_of(one, "F:\\")
    backup = await importer(two, document)
    await backup.done(table.import_snapshots)
    two.journal.clear()
    await backup.call(table.release)
    assert two.journal == [
        "host: retire",
        "host: remove",
        "provider: FillInLunInfo",
        "provider: OnLunEmpty",
    ]
    assert one.array.copies == {}
    assert two.service.parts.catalog.sets() == []


async def test_the_death_of_the_importer_deletes_an_auto_release_set(one: Any, two: Any) -> None:
    _, _, document = await document_of(one, "F:\\")
    backup = await importer(two, document)
    await backup.done(table.import_snapshots)
    await backup.close()
    await two.until(lambda: not one.array.copies)


async def test_a_persistent_set_survives_its_creator_and_its_importer(one: Any, two: Any) -> None:
    creator, _, document = await document_of(one, "F:\\", context=PERSISTENT)
    await creator.call(table.release)
    assert len(one.array.copies) == 1
    backup = await importer(two, document)
    await backup.done(table.import_snapshots)
    await backup.call(table.release)
    assert len(two.host.objects) == 1
    looker = await two.requester()
    await looker.call(table.initialize_for_backup)
    await looker.call(table.set_context, 0x9)
    assert len(await looker.call(table.query)) == 1


async def test_releasing_the_creator_ends_a_nonpersistent_set_that_nobody_imported(
    one: Any, two: Any
) -> None:
    creator, _, document = await document_of(one, "F:\\")
    await creator.call(table.release)
    assert one.array.copies == {}
    with pytest.raises(ProviderVeto):
        await (await importer(two, document)).done(table.import_snapshots)


async def test_releasing_the_creator_leaves_a_set_alone_that_another_host_imported(
    one: Any, two: Any
) -> None:
    creator, _, document = await document_of(one, "F:\\")
    backup = await importer(two, document)
    await backup.done(table.import_snapshots)
    await creator.call(table.release)
    assert len(one.array.copies) == 1
    assert len(await backup.call(table.query)) == 1


async def test_the_creator_may_import_its_own_set(one: Any) -> None:
    creator, ids, document = await document_of(one, "F:\\")
    backup = await importer(one, document)
    await backup.done(table.import_snapshots)
    assert [c.snapshot_id for c in await backup.call(table.query)] == ids
    await creator.call(table.release)
    assert len(one.host.objects) == 1
    await backup.call(table.release)
    assert one.host.objects == {}


async def created_here(one: Any, *volumes: Any, context: Any = 0x9) -> Any:
    requester = await one.requester()
    ids = await requester.created(*volumes, context=context)
    return requester, ids


async def test_query_shows_the_copies_of_the_context_and_all_under_all(one: Any) -> None:
    await created_here(one, "F:\\", context=0x9)
    await created_here(one, "G:\\", context=0)
    for context, wanted in ((0x9, 1), (0, 1), (0x19, 0), (0xFFFFFFFF, 2)):
        requester = await one.requester()
        await requester.call(table.initialize_for_backup)
        await requester.call(table.set_context, context)
        assert len(await requester.call(table.query)) == wanted


async def test_deleting_a_set_counts_and_stops_at_the_first_failure(one: Any) -> None:
    requester, ids = await created_here(one, "F:\\", "G:\\", "H:\\")
    real = one.host.retire

    async def retire(snapshot_id: Any) -> None:
        if snapshot_id == ids[1]:
            raise ProviderVeto("not this one")
        await real(snapshot_id)

    one.host.retire = retire
    result = await requester.call(
        table.delete_snapshots, requester.set_id, ObjectType.SNAPSHOT_SET, False
    )
    assert (result.deleted, result.first_undeleted) == (1, ids[1])
    assert result.hresult == Hresult.VSS_E_PROVIDER_VETO
    one.host.retire = real
    result = await requester.call(
        table.delete_snapshots, requester.set_id, ObjectType.SNAPSHOT_SET, False
    )
    assert (result.deleted, result.first_undeleted) == (2, None)
    assert one.array.copies == {}
    with pytest.raises(ObjectNotFound):
        await requester.call(
            table.delete_snapshots, requester.set_id, ObjectType.SNAPSHOT_SET, False
        )


async def test_the_count_of_a_set_stays_when_one_copy_is_deleted(one: Any) -> None:
    requester, ids = await created_here(one, "F:\\", "G:\\")
    result = await requester.call(table.delete_snapshots, ids[0], ObjectType.SNAPSHOT, False)
    assert result.deleted == 1
    left = await requester.call(table.get_snapshot_properties, ids[1])
    assert left.snapshots_count == 2
    with pytest.raises(ObjectNotFound):
        await requester.call(table.get_snapshot_properties, ids[0])
    with pytest.raises(InvalidArgument):
        await requester.call(table.delete_snapshots, ids[1], ObjectType.PROVIDER, False)


async def test_a_lun_goes_with_the_last_copy_on_it(one: Any) -> None:
    one.host.share_lun("F", "G")
    requester, ids = await created_here(one, "F:\\", "G:\\")
    one.journal.clear()
    await requester.call(table.delete_snapshots, ids[0], ObjectType.SNAPSHOT, False)
    assert "provider: OnLunEmpty" not in one.journal
    await requester.call(table.delete_snapshots, ids[1], ObjectType.SNAPSHOT, False)
    assert "provider: OnLunEmpty" in one.journal
    assert one.array.copies == {}


async def test_a_broken_set_is_gone_from_vss_and_outlives_its_session(one: Any) -> None:
    requester, ids = await created_here(one, "F:\\", context=0)
    await requester.call(table.break_snapshot_set, requester.set_id)
    with pytest.raises(ObjectNotFound):
        await requester.call(table.get_snapshot_properties, ids[0])
    with pytest.raises(ObjectNotFound):
        await requester.call(table.break_snapshot_set, requester.set_id)
    await requester.call(table.release)
    assert one.host.released == set(ids)
    assert len(one.array.copies) == 1
    assert len(one.host.objects) == 1


async def test_what_is_not_imported_or_not_of_hardware_cannot_be_broken(one: Any) -> None:
    creator, _, document = await document_of(one, "F:\\")
    with pytest.raises(BadState, match="not imported"):
        await creator.call(table.break_snapshot_set, creator.set_id)
    loaded = await importer(one, document)
    with pytest.raises(BadState, match="not imported"):
        await loaded.call(table.break_snapshot_set, creator.set_id)


async def test_a_software_copy_cannot_be_broken(one: Any) -> None:
    await one.service.parts.providers.unregister(one.provider_id, [])
    await one.register(name="soft", kind=ProviderType.SOFTWARE)
    requester, _ = await created_here(one, "F:\\", context=0x19 & ~0x10)
    with pytest.raises(ProviderVeto, match="software"):
        await requester.call(table.break_snapshot_set, requester.set_id)
    transportable = await one.requester()
    with pytest.raises(Exception, match="no provider supports"):
        await transportable.prepared("G:\\", context=0x20)


async def test_a_persistent_copy_is_exposed_and_taken_back(one: Any) -> None:
    requester, (copy,) = await created_here(one, "F:\\")
    local = Attribute.EXPOSED_LOCALLY
    name = await requester.call(table.expose_snapshot, copy, None, local, "X:")
    assert name == "X:"
    shown = await requester.call(table.get_snapshot_properties, copy)
    assert shown.exposed_name == "X:"
    assert shown.attributes & local
    assert not shown.attributes & Attribute.NOT_SURFACED
    with pytest.raises(ObjectAlreadyExists):
        await requester.call(table.expose_snapshot, copy, None, local, "Y:")
    await requester.call(table.unexpose_snapshot, copy)
    hidden = await requester.call(table.get_snapshot_properties, copy)
    assert hidden.exposed_name is None
    assert hidden.attributes & Attribute.NOT_SURFACED
    with pytest.raises(ObjectNotFound):
        await requester.call(table.unexpose_snapshot, copy)


async def test_exposures_that_are_not_allowed_get_their_codes(one: Any) -> None:
    requester, (copy,) = await created_here(one, "F:\\")
    local, remote = Attribute.EXPOSED_LOCALLY, Attribute.EXPOSED_REMOTELY
    with pytest.raises(InvalidArgument):
        await requester.call(table.expose_snapshot, copy, "dir", local, "X:")
    with pytest.raises(InvalidArgument):
        await requester.call(table.expose_snapshot, copy, None, local, None)
    with pytest.raises(InvalidArgument):
        await requester.call(table.expose_snapshot, copy, None, Attribute(0), "X:")
    with pytest.raises(NotSupportedHere):
        await requester.call(table.expose_snapshot, copy, None, remote, "share")
    other, (passing,) = await created_here(one, "G:\\", context=0)
    with pytest.raises(UnsupportedContext):
        await other.call(table.expose_snapshot, passing, None, local, "X:")


async def test_a_lun_in_use_at_the_release_is_deleted_when_it_is_free(one: Any) -> None:
    requester, _ = await created_here(one, "F:\\", context=0)
    one.plan["array"]["OnLunEmpty"] = ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, "in use")
    await requester.call(table.release)
    (left,) = one.service.parts.catalog.sets()
    assert left.status is SetStatus.DELETING
    looker = await one.requester()
    await looker.call(table.initialize_for_backup)
    await looker.call(table.set_context, 0xFFFFFFFF)
    assert await looker.call(table.query) == []
    assert one.events("shadow_copy_deleted") == []
    del one.plan["array"]["OnLunEmpty"]
    await one.until(lambda: not one.array.copies)
    await one.until(lambda: not one.service.parts.catalog.sets())
    assert [event["why"] for event in one.events("shadow_copy_deleted")] == ["tried again"]
