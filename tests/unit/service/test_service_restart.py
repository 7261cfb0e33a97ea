"""What the next service does with what the last one left; rights; the registry; the log."""

import grp
import os
from typing import Any

import pytest

from vssemu.api import registry as registry_table
from vssemu.api import requester as table
from vssemu.linux.credentials import PeerCredentials
from vssemu.rpc.caller import Caller
from vssemu.service import access
from vssemu.service.catalog import Catalog, SetStatus
from vssemu.service.events import EventLog, read
from vssemu.service.limits import Limits, from_mapping, load
from vssemu.vss.enums import ProviderType
from vssemu.vss.errors import (
    AccessDenied,
    InvalidArgument,
    MissingVolume,
    ObjectNotFound,
    ProviderAlreadyRegistered,
    ProviderInUse,
    ProviderNotRegistered,
    Unexpected,
)
from vssemu.vss.host import GptFlags


async def crashed_in(one: Any, method: Any) -> Any:
    """Crash the service while a provider call runs, with writes held or not."""
    requester = await one.requester()
    await requester.prepared("F:\\", context=0)
    one.plan["array"][method] = "hang"
    await requester.call(table.do_snapshot_set)
    await one.until(lambda: f"provider: {method}" in one.journal)
    states = one.service.parts.catalog.sets()
    await one.crash()
    return states


@pytest.mark.parametrize(
    "method", ["EndPrepareSnapshots", "PreCommitSnapshots", "CommitSnapshots", "LocateLuns"]
)
async def test_a_creation_cut_off_by_a_crash_is_undone_at_the_next_start(
    one: Any, method: Any
) -> None:
    (left,) = await crashed_in(one, method)
    assert left.status is SetStatus.CREATING
    flags_before = dict(one.host.flags)
    one.plan["array"].clear()
    one.journal.clear()
    # What a crash leaves: flags set, copies in the array.
    await one.start()
    assert set(one.host.flags.values()) <= {GptFlags.NONE}, flags_before
    assert one.array.copies == {}
    assert one.service.parts.catalog.sets() == []
    assert "provider: AbortSnapshots" in one.journal
    requester = await one.requester()
    await requester.created("F:\\", context=0)


async def test_nonpersistent_sets_go_and_persistent_ones_come_up_again_after_a_crash(
    one: Any,
) -> None:
    lasting, passing = await one.requester(), await one.requester()
    (kept,) = await lasting.created("F:\\", context=0x9)
    await passing.created("G:\\", context=0)
    await one.crash()
    one.host.objects.clear()
    await one.start()
    requester = await one.requester()
    await requester.call(table.initialize_for_backup)
    await requester.call(table.set_context, 0xFFFFFFFF)
    (found,) = await requester.call(table.query)
    assert found.snapshot_id == kept
    assert found.device_object
    assert len(one.array.copies) == 1


async def test_a_copy_that_does_not_come_up_after_a_crash_keeps_no_other_one_down(
    one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    requester = await one.requester()
    first, second = await requester.created("F:\\", "G:\\", context=0x9)
    await one.crash()
    one.host.objects.clear()
    surface = one.host.surface

    async def of_the_second_alone(copy: Any) -> Any:
        if copy.snapshot_id == first:
            raise MissingVolume(f"{first} has no volume")
        return await surface(copy)

    monkeypatch.setattr(one.host, "surface", of_the_second_alone)
    await one.start()
    assert set(one.host.objects) == {second}
    (found,) = one.events("recovered")
    assert str(first) in found["outcome"]


async def test_a_transportable_nonpersistent_set_goes_with_its_creators_service(one: Any) -> None:
    requester = await one.requester()
    await requester.created("F:\\", context=0x20)
    assert len(one.array.copies) == 1
    await one.crash()
    await one.start()
    assert one.array.copies == {}


async def test_an_import_cut_off_by_a_crash_leaves_listed_luns(one: Any, two: Any) -> None:
    creator = await one.requester()
    await creator.created("F:\\", context=0x29)
    document = await creator.call(table.save_as_xml)
    backup = await two.requester()
    await backup.call(table.initialize_for_backup, document)
    two.plan["array"].update({"FillInLunInfo": "hang"})
    await backup.call(table.import_snapshots)
    await two.until(lambda: "provider: FillInLunInfo" in two.journal)
    await two.crash()
    two.plan["array"].clear()
    await two.start()
    assert two.service.parts.catalog.sets() == []
    assert set(two.host.failed.values()) == {creator.set_id}


async def test_an_orderly_stop_releases_sessions_and_unloads_providers(one: Any) -> None:
    requester = await one.requester()
    await requester.created("F:\\", context=0)
    await one.stop()
    assert one.array.copies == {}
    assert one.journal[-1] == "provider: OnUnload"
    assert not one.programs[0].is_alive


async def test_sessions_and_operations_are_nobody_elses_to_name(one: Any, requester: Any) -> None:
    with pytest.raises(ObjectNotFound):
        await requester.client.scoped("0" * 32).call(table.initialize_for_backup)
    with pytest.raises(ObjectNotFound):
        await requester.client.call(table.wait, "0" * 32, None)
    other = await one.connect()
    await other.scoped(requester.session).call(table.initialize_for_backup)
    await requester.close()
    await one.until(lambda: not one.service._requester._sessions.all())
    with pytest.raises(ObjectNotFound):
        await other.scoped(requester.session).call(table.set_context, 0)
    await other.aclose()


def caller(uid: Any, gid: Any = 4000, groups: Any = ()) -> Any:
    return Caller(PeerCredentials(pid=1, uid=uid, gid=gid, groups=groups))


def test_only_root_and_the_operators_group_may_call(monkeypatch: Any) -> None:
    class Group:
        gr_gid = 777

    monkeypatch.setattr(grp, "getgrnam", lambda name: Group)
    access.authorize(caller(0))
    access.authorize(caller(1000, groups=(5, 777)))
    access.authorize(caller(1000, gid=777))
    with pytest.raises(AccessDenied, match="1000"):
        access.authorize(caller(1000, groups=(5,)))

    def nobody(name: Any) -> None:
        raise KeyError(name)

    monkeypatch.setattr(grp, "getgrnam", nobody)
    access.authorize(caller(0))
    with pytest.raises(AccessDenied):
        access.authorize(caller(1000, groups=(777,)))


async def test_every_method_of_every_interface_is_refused_without_the_right(
    one: Any, monkeypatch: Any
) -> None:
    def refuse(name: Any) -> None:
        raise KeyError(name)

    monkeypatch.setattr(grp, "getgrnam", refuse)
    real = access.authorize
    seen = []

    def as_stranger(found: Any) -> None:
        seen.append(found)
        real(caller(1234))

    import trio

    from vssemu.api.errors import decode_error, encode_error
    from vssemu.rpc import client_trio
    from vssemu.rpc.server import serve_unix

    path = one.directory / "strangers.sock"
    async with trio.open_nursery() as nursery:

        async def serve(task_status: Any) -> None:
            await serve_unix(
                path,
                one.service.interfaces(),
                vendor="t",
                product="t",
                version="1",
                url="",
                encode_error=encode_error,
                authorize=as_stranger,
                task_status=task_status,
            )

        await nursery.start(serve)
        count = 0
        for interface in one.service.interfaces():
            for method in interface.methods.values():
                async with await client_trio.connect(path, decode_error=decode_error) as client:
                    with pytest.raises(AccessDenied):
                        await _call_anyhow(client, method)
                count += 1
        nursery.cancel_scope.cancel()
    assert len(seen) == count > 30


async def _call_anyhow(client: Any, method: Any) -> None:
    """Call with parameters that make no sense: the right is asked for first."""
    from vssemu.rpc.protocol import call_message

    data = call_message(method.qualified_name, b"{}", more=method.more)
    channel = client._channel
    channel.core.start(method)
    await channel.send(data)
    await channel.reply()


async def test_the_registry_refuses_what_it_has_what_it_lacks_and_what_is_in_use(one: Any) -> None:
    with pytest.raises(ProviderAlreadyRegistered):
        await one.register()
    with pytest.raises(InvalidArgument):
        await one.register(name="", provider_id=one.host.known["F:\\"].guid)
    requester = await one.requester()
    await requester.created("F:\\", context=0x9)
    async with await one.connect() as client:
        with pytest.raises(ProviderInUse):
            await client.call(registry_table.unregister_provider, one.provider_id)
        with pytest.raises(ProviderNotRegistered):
            await client.call(registry_table.unregister_provider, one.host.known["F:\\"].guid)
        (found,) = await client.call(registry_table.query_providers)
        assert (found.provider_id, found.type) == (one.provider_id, ProviderType.HARDWARE)
    assert await requester.call(table.query_providers) == [found]


async def test_an_operator_who_is_not_root_registers_no_provider(one: Any) -> None:
    registry = one.service.interfaces()[registry_table.registry]
    operator = caller(os.geteuid() + 1)
    with pytest.raises(AccessDenied, match="no administrator"):
        await registry.unregister_provider(operator, one.provider_id)
    assert [p.provider_id for p in await registry.query_providers(operator)] == [one.provider_id]


async def test_an_unregistered_provider_is_unloaded_and_forgotten_for_good(one: Any) -> None:
    requester = await one.requester()
    await requester.call(table.initialize_for_backup)
    assert await requester.call(table.is_volume_supported, "F:\\")
    async with await one.connect() as client:
        await client.call(registry_table.unregister_provider, one.provider_id)
        assert await client.call(registry_table.query_providers) == []
    assert one.journal[-1] == "provider: OnUnload"
    await one.stop()
    await one.start()
    assert one.service.parts.providers.all() == []


def test_a_catalog_of_a_newer_version_is_refused(tmp_path: Any) -> None:
    catalog = Catalog(tmp_path / "vss.db")
    catalog._db.execute("PRAGMA user_version = 99")
    catalog.close()
    with pytest.raises(Unexpected, match="99"):
        Catalog(tmp_path / "vss.db")


def test_the_limits_come_from_the_file_and_nonsense_is_refused_by_name(tmp_path: Any) -> None:
    path = tmp_path / "vssemu.toml"
    assert load(path) == Limits()
    path.write_text("[limits]\narrival = 5\n[limits.writer]\nfreeze = 20\n")
    assert load(path).arrival == 5.0
    assert load(path).writer.freeze == 20.0
    for text in (
        "[limits]\narival = 5\n",
        "[limits]\narrival = 0\n",
        "[limits]\narrival = 'long'\n",
        "[limits]\narrival = true\n",
        "limits = 5\n",
        "[limits]\nwriter = 5\n",
        "[limits.provider]\nfreeze = 5\n",
        "not toml",
    ):
        path.write_text(text)
        with pytest.raises(InvalidArgument, match=r"vssemu\.toml"):
            load(path)
    assert from_mapping({}) == Limits()


def test_the_event_log_waits_during_a_hold_and_turns_over(tmp_path: Any) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, turn_over=100)
    with log.quiet():
        log.record("one", number=1)
        assert not path.exists()
    assert [event["kind"] for event in read(path)] == ["one"]
    for number in range(10):
        log.record("more", number=number)
    assert path.with_suffix(".1.jsonl").exists()
    with path.open("ab") as file:
        file.write(b'{"kind": "cut')
    assert all(event["kind"] == "more" for event in read(path))
