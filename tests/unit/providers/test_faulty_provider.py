"""A provider between fault points: every call of any provider, and what its failures look like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from vssemu.api import provider as api
from vssemu.faults import POINTS, Fault, FaultStore, InjectedFault
from vssemu.providers.faulty import FaultyProvider
from vssemu.providers.runner import ProviderService, check_provider, encode_failure
from vssemu.vss.hresult import Hresult
from vssemu.vss.provider import HostIdentity, ProviderFailure

HOST = HostIdentity(machine="systemOne", initiators=())
SET_ID = UUID("99999999-2222-4333-8444-555555555555")
CALLS = [method.function_name for method in api.provider.methods.values()]


class Recorder:
    """Notes its calls; plain methods, as a vendor may have them."""

    made: "list[Recorder]" = []  # noqa: RUF012 - made by the class under test, by name

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.made.append(self)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in CALLS:
            raise AttributeError(name)

        def called(*arguments: Any, **named: Any) -> str:
            self.calls.append((name, *arguments, *named.items()))
            return f"answer of {name}"

        return called


class NoProvider:
    pass


@pytest.fixture
def store(tmp_path: Path) -> FaultStore:
    return FaultStore(tmp_path / "faults")


async def loaded(store: FaultStore, **config: str) -> tuple[FaultyProvider, Recorder]:
    provider = FaultyProvider()
    wraps = {"wraps": f"{__name__}:Recorder", "faults": str(store.directory)}
    await provider.on_load(HOST, wraps | config)
    return provider, Recorder.made[-1]


def test_it_is_a_whole_provider() -> None:
    assert check_provider(FaultyProvider()) == []
    assert not hasattr(FaultyProvider(), "on_reuse_luns")


def test_there_is_a_point_before_and_after_each_call_and_no_other() -> None:
    assert list(POINTS["provider"]) == [p for call in CALLS for p in (call, f"{call}.after")]


async def test_the_calls_reach_the_wrapped_provider_and_their_answers_come_back(
    store: FaultStore,
) -> None:
    provider, recorder = await loaded(store, vendor="kept")
    ((name, host, config),) = recorder.calls
    assert (name, host, config["vendor"]) == ("on_load", HOST, "kept")
    for call in CALLS[1:]:
        recorder.calls.clear()
        assert await getattr(provider, call)(1, force=True) == f"answer of {call}"
        assert recorder.calls == [(call, 1, ("force", True))]


@pytest.mark.parametrize("call", CALLS[1:])
async def test_before_a_call_nothing_is_done_and_after_it_all_is(
    store: FaultStore, call: str
) -> None:
    provider, recorder = await loaded(store)
    recorder.calls.clear()
    store.arm(Fault("provider", call, "raise"))
    with pytest.raises(InjectedFault):
        await getattr(provider, call)()
    assert recorder.calls == []
    store.arm(Fault("provider", f"{call}.after", "code", "VSS_E_PROVIDER_VETO"))
    with pytest.raises(ProviderFailure) as failed:
        await getattr(provider, call)()
    assert failed.value.hresult is Hresult.VSS_E_PROVIDER_VETO
    assert recorder.calls == [(call,)]


async def test_a_code_leaves_the_process_as_it_is(store: FaultStore) -> None:
    provider, _ = await loaded(store)
    service = ProviderService(provider, {})
    store.arm(Fault("provider", "commit_snapshots", "code", "VSS_E_HOLD_WRITES_TIMEOUT"))
    with pytest.raises(ProviderFailure) as failed:
        await service.commit_snapshots(None, SET_ID)  # type: ignore[arg-type]
    parameters = encode_failure(failed.value) or {}
    assert parameters["hresult"] == Hresult.VSS_E_HOLD_WRITES_TIMEOUT


async def test_one_that_cannot_be_loaded_is_loaded_the_next_time(store: FaultStore) -> None:
    provider = FaultyProvider()
    config = {"wraps": f"{__name__}:Recorder", "faults": str(store.directory)}
    store.arm(Fault("provider", "on_load", "code", "VSS_E_PROVIDER_VETO"))
    with pytest.raises(ProviderFailure):
        await provider.on_load(HOST, config)
    await provider.on_load(HOST, config)
    assert [call[0] for call in Recorder.made[-1].calls] == ["on_load"]


async def test_a_label_tells_two_apart(store: FaultStore) -> None:
    one, _ = await loaded(store, label="one")
    two, _ = await loaded(store, label="two")
    store.arm(Fault("provider:two", "commit_snapshots", "raise"))
    await one.commit_snapshots(SET_ID)
    with pytest.raises(InjectedFault):
        await two.commit_snapshots(SET_ID)


@pytest.mark.parametrize(
    "wraps", ["no.such.module:Class", f"{__name__}:Nothing", f"{__name__}:NoProvider", "nonsense"]
)
async def test_what_is_no_provider_is_refused_by_name(store: FaultStore, wraps: str) -> None:
    with pytest.raises(ProviderFailure) as refused:
        await loaded(store, wraps=wraps)
    assert refused.value.hresult is Hresult.VSS_E_PROVIDER_VETO
    assert wraps in refused.value.event_text
