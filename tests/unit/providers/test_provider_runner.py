import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.unit.providers.provider_support import HOST, foreign, new_set, new_snapshot
from vssemu.api import provider as api
from vssemu.api.errors import decode_error
from vssemu.providers.runner import ProviderService, check_provider, serve_provider, settings
from vssemu.rpc.client_trio import connect
from vssemu.rpc.listening import listen_unix
from vssemu.vss.enums import LunStateChange
from vssemu.vss.errors import InsufficientStorage, Unexpected
from vssemu.vss.hresult import Hresult
from vssemu.vss.provider import ProviderFailure, Supported


class Mixed:
    """A provider with plain and async methods, as vendors write them."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.preparing = trio.Event()
        self.aborted = trio.Event()

    def on_load(self, host: Any, config: dict[str, str]) -> None:
        self.seen.append((host, dict(config)))

    def on_unload(self, *, force: Any) -> Any:
        return force

    def are_luns_supported(self, context: Any, luns: Any) -> Any:
        return Supported(supported=context == 0, luns=tuple(luns))

    def begin_prepare_snapshot(
        self, set_id: Any, snapshot_id: Any, context: Any, luns: Any
    ) -> None:
        raise ProviderFailure(Hresult.VSS_E_INSUFFICIENT_STORAGE, "no room; delete copies")

    async def end_prepare_snapshots(self, set_id: Any) -> None:
        self.preparing.set()
        await self.aborted.wait()
        raise ProviderFailure(Hresult.VSS_E_BAD_STATE, "aborted")

    async def abort_snapshots(self, set_id: Any) -> None:
        self.aborted.set()

    def commit_snapshots(self, set_id: Any) -> None:
        raise ZeroDivisionError("by a vendor")

    def resync_luns(self, sources: Any, targets: Any, progress: Any) -> None:
        for percent in (0, 50, 100):
            progress(percent)

    def get_target_luns(self, sources: Any) -> Any:
        return (source.information for source in sources)

    def fill_in_lun_info(self, lun: Any) -> Any:
        return Supported(supported=False, luns=(lun,))

    def on_lun_state_change(self, snapshots: Any, originals: Any, flags: Any) -> None:
        self.seen.append(flags)

    def nothing(self, *arguments: Any) -> None:
        pass

    pre_commit_snapshots = nothing
    post_commit_snapshots = nothing
    pre_final_commit_snapshots = nothing
    post_final_commit_snapshots = nothing
    locate_luns = nothing
    on_lun_empty = nothing


@pytest.fixture
def mixed() -> Any:
    return Mixed()


@pytest.fixture
async def path(tmp_path: Path, mixed: Mixed, nursery: trio.Nursery) -> Any:
    where = tmp_path / "provider.sock"
    service = ProviderService(mixed, {"array_socket": "below", "run": "kept"})
    await nursery.start(serve_provider, service, listen_unix(where))
    return where


@pytest.fixture
async def client(path: Path) -> Any:
    async with await connect(path, decode_error=decode_error) as made:
        yield made


async def test_plain_and_async_methods_are_served(client: Any, mixed: Mixed) -> None:
    lun = foreign()
    assert (await client.call(api.are_luns_supported, 0, [lun])).supported
    assert await client.call(api.get_target_luns, [lun]) == [lun.information]
    assert await client.call(api.on_unload, True) is True
    assert await client.call(api.on_unload, False) is False
    await client.call(api.on_lun_state_change, [], [], LunStateChange.DO_MASK_LUNS)
    assert mixed.seen == [LunStateChange.DO_MASK_LUNS]


async def test_the_services_configuration_wins_over_the_environments(
    client: Any, mixed: Mixed
) -> None:
    await client.call(api.on_load, HOST, {"array_socket": "above"})
    assert mixed.seen == [(HOST, {"array_socket": "above", "run": "kept"})]


async def test_a_provider_failure_travels_as_its_code_and_event_text(client: Any) -> None:
    with pytest.raises(InsufficientStorage) as caught:
        await client.call(api.begin_prepare_snapshot, new_set(), new_snapshot(), 0, [foreign()])
    assert caught.value.fact == "no room; delete copies"


async def test_whatever_else_leaves_a_provider_is_unexpected_with_its_name(client: Any) -> None:
    with pytest.raises(Unexpected, match="ZeroDivisionError: by a vendor"):
        await client.call(api.commit_snapshots, new_set())
    assert (await client.call(api.are_luns_supported, 0, [foreign()])).supported


async def test_abort_may_overlap_end_prepare(path: Path, client: Any, mixed: Mixed) -> None:
    async with await connect(path, decode_error=decode_error) as other:
        failures: list[Any] = []

        async def end() -> None:
            try:
                await client.call(api.end_prepare_snapshots, new_set())
            except Exception as error:  # noqa: BLE001 - the test looks at whatever came
                failures.append(error)

        with trio.fail_after(5):
            async with trio.open_nursery() as inner:
                inner.start_soon(end)
                await mixed.preparing.wait()
                await other.call(api.abort_snapshots, new_set())
    assert [error.hresult for error in failures] == [Hresult.VSS_E_BAD_STATE]


async def test_the_progress_of_a_resync_streams(client: Any) -> None:
    async with client.stream(api.resync_luns, [], []) as progress:
        assert [percent async for percent in progress] == [0, 50, 100]


async def test_a_socket_that_is_shut_down_ends_the_runner(tmp_path: Path, mixed: Mixed) -> None:
    listening = listen_unix(tmp_path / "s")
    other = socket.socket(fileno=listening.dup().detach())
    with trio.fail_after(5), other:
        async with trio.open_nursery() as inner:
            await inner.start(serve_provider, ProviderService(mixed, {}), listening)
            other.shutdown(socket.SHUT_RDWR)


def test_the_environment_becomes_configuration() -> None:
    environment = {"VSSEMU_ARRAY_SOCKET": "/s", "VSSEMU_RUN": "/r", "PATH": "/bin"}
    assert settings(environment) == {"array_socket": "/s", "run": "/r"}


def test_a_class_that_is_no_provider_is_told_what_it_lacks() -> None:
    assert check_provider(Mixed()) == []
    assert "commit_snapshots" in check_provider(object())
