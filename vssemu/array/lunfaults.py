"""Faults, power losses and write logs of LUNs: handed on to the lunfs that serves each."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NoReturn, ParamSpec, TypeVar

from vssemu.api import lunfaults as api
from vssemu.api.lunfaults import Loss, PowerStatus, WriteLogStatus
from vssemu.array.border import storage
from vssemu.array.core import Core, existing
from vssemu.array.engines.cow.shards import Shards
from vssemu.faults.luns import LunFault, LunFaultStatus
from vssemu.rpc.caller import Caller
from vssemu.rpc.interface import Method
from vssemu.vss.errors import BadState
from vssemu.vss.identity import LunId

SEEDS: Final = 1 << 32

P = ParamSpec("P")
R = TypeVar("R")


class LunFaultsService:
    """io.vssemu.array.Faults for the administrator. shards: None with another engine."""

    def __init__(self, core: Core, shards: Shards | None) -> None:
        self._core = core
        self._shards = shards

    async def set_lun_fault(self, caller: Caller, lun: LunId, fault: LunFault) -> LunFault:
        """Set a fault, whose seed is drawn here, so that asking again sets no second one."""
        if fault.seed is None:
            fault = replace(fault, seed=random.randrange(SEEDS))
        return await self._of(lun, api.set_lun_fault, lun, fault)

    async def list_lun_faults(self, caller: Caller) -> list[LunFaultStatus]:
        """List what is set."""
        return [one for found in await self._all(api.list_lun_faults) for one in found]

    async def clear_lun_faults(self, caller: Caller, lun: LunId | None) -> int:
        """Take faults back."""
        if lun is None:
            return sum(await self._all(api.clear_lun_faults))
        return await self._of(lun, api.clear_lun_faults, lun)

    async def release_lun(self, caller: Caller, lun: LunId) -> int:
        """Let stuck requests go."""
        return await self._of(lun, api.release_lun, lun)

    async def set_volatile(self, caller: Caller, lun: LunId, volatile: bool) -> None:
        """Have writes be lost by a power loss, or not."""
        await self._of(lun, api.set_volatile, lun, volatile)

    async def list_lun_power(self, caller: Caller) -> list[PowerStatus]:
        """Tell how power stands."""
        return [one for found in await self._all(api.list_lun_power) for one in found]

    async def power_loss(
        self, caller: Caller, lun: LunId, seed: int | None, back_after: float | None
    ) -> Loss:
        """Take a LUN's power."""
        if seed is None:
            seed = random.randrange(SEEDS)
        return await self._of(lun, api.power_loss, lun, seed, back_after)

    async def power_on(self, caller: Caller, lun: LunId) -> None:
        """Give it back."""
        await self._of(lun, api.power_on, lun)

    async def record_writes(self, caller: Caller, lun: LunId, log: str) -> None:
        """Begin a recording."""
        await self._of(lun, api.record_writes, lun, log)

    async def stop_writes(self, caller: Caller, lun: LunId) -> int:
        """End a recording."""
        return await self._of(lun, api.stop_writes, lun)

    async def mark_writes(self, caller: Caller, lun: LunId, name: str) -> int:
        """Put a mark into a log."""
        return await self._of(lun, api.mark_writes, lun, name)

    async def list_recordings(self, caller: Caller) -> list[WriteLogStatus]:
        """List what is recorded."""
        return [one for found in await self._all(api.list_recordings) for one in found]

    async def _of(
        self, lun: LunId, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a method of the lunfs that serves a LUN."""
        await self._core.journal.read(existing, lun)
        if self._shards is None:
            self._refuse()
        with storage("reach the lunfs of LUN", lun):
            return await self._shards.of(lun).call(method, *args, **kwargs)

    async def _all(
        self, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Sequence[R]:
        """Call a method of every lunfs."""
        if self._shards is None:
            self._refuse()
        return [await shard.call(method, *args, **kwargs) for shard in self._shards.all]

    def _refuse(self) -> NoReturn:
        engine = self._core.engine.name
        raise BadState(
            f"LUNs of the engine {engine} have no faults and no write logs",
            item=engine,
            hint="use a lab of the engine that has them: vssemu lab up --engine cow",
        )
