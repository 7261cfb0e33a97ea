"""io.vssemu.array.Faults on the control socket of a shard: faults, power and logs of its LUNs.

Raises VssError. What is set lasts: it is kept before the caller hears of it.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from vssemu import logs
from vssemu.api.lunfaults import Loss, PowerStatus, WriteLogStatus
from vssemu.faults.luns import FaultState, LunFault, LunFaultStatus
from vssemu.faults.writelog import LogHeader, LogWriter
from vssemu.rpc.caller import Caller
from vssemu.vss.errors import BadState, Fail, InvalidArgument, ObjectNotFound
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.chain.chain import Chain
from vssemu_fuse.lunfs.faults.faulty import SetFault
from vssemu_fuse.lunfs.faults.instruments import ChainPower, Instrumented, Instruments, disk_name
from vssemu_fuse.lunfs.faults.logged import Recording
from vssemu_fuse.lunfs.faults.power import Supply
from vssemu_fuse.lunfs.io.work import Operation, Worker
from vssemu_fuse.lunfs.shard.chains import Chains
from vssemu_fuse.lunfs.shard.shard import Runner

_log = logs.get_logger(__name__)

SEEDS: Final = 1 << 32
QUIET_SECONDS: Final = 5.0
"""How long the writes under way may take before a recording begins."""


class FaultControl:
    """Implements `vssemu.api.lunfaults`. run: how work is done beside the requests."""

    def __init__(
        self, instruments: Instruments, chains: Chains, worker: Worker, run: Runner
    ) -> None:
        self._instruments = instruments
        self._chains = chains
        self._worker = worker
        self._run = run
        instruments.on_due = self._due

    # --- faults

    async def set_lun_fault(self, caller: Caller, lun: LunId, fault: LunFault) -> LunFault:
        """Set a fault."""
        one = self._of(lun)
        if fault.seed is None:
            fault = replace(fault, seed=random.randrange(SEEDS))
        equal = [each for each in one.faults if each.state.fault == fault]
        if not any(not each.state.is_over for each in equal):
            one.faults = [each for each in one.faults if each not in equal]
            one.faults.append(SetFault(FaultState(fault)))
            with _keeping(lun):
                self._instruments.changed(one)
        return fault

    async def list_lun_faults(self, caller: Caller) -> list[LunFaultStatus]:
        """List faults."""
        return [
            LunFaultStatus(
                lun=one.lun,
                fault=each.state.fault,
                met=each.state.met,
                standing=each.standing,
            )
            for one in self._all()
            for each in one.faults
        ]

    async def clear_lun_faults(self, caller: Caller, lun: LunId | None) -> int:
        """Take faults back."""
        count = 0
        for one in self._all() if lun is None else [self._of(lun)]:
            faults, one.faults = one.faults, []
            if faults:
                with _keeping(one.lun):
                    self._instruments.changed(one)
            for each in faults:
                each.release()
            count += len(faults)
        return count

    async def release_lun(self, caller: Caller, lun: LunId) -> int:
        """Let requests go."""
        return sum(each.release() for each in self._of(lun).faults)

    # --- power

    async def set_volatile(self, caller: Caller, lun: LunId, volatile: bool) -> None:
        """Have writes be volatile, or not."""
        power = self._of(lun).power
        if power.is_off:
            raise BadState(f"LUN {lun} has no power", item=lun, hint="vssemu array fault power-on")
        served = self._chains.of(lun)
        if volatile and power.supply is None:
            power.supply = Supply()
            power.supply.plug_all(served.chain, lambda node: disk_name(served.file(node.lun)))
        elif not volatile and power.supply is not None:
            power.supply.unplug_all(served.chain)
            power.supply = None
        self._changed(power)

    async def list_lun_power(self, caller: Caller) -> list[PowerStatus]:
        """Tell how power stands."""
        powers = {one.power.origin: one.power for one in self._all()}
        return [
            PowerStatus(
                origin=power.origin,
                is_volatile=True,
                is_off=power.is_off,
                back_at=power.back_at,
                pending=power.supply.pending,
                losses=power.supply.losses,
            )
            for power in powers.values()
            if power.supply is not None
        ]

    async def power_loss(
        self, caller: Caller, lun: LunId, seed: int | None, back_after: float | None
    ) -> Loss:
        """Take the power of a chain."""
        power = self._of(lun).power
        if power.supply is None:
            raise BadState(
                f"nothing that is written to LUN {lun} can be lost",
                item=lun,
                hint=f"vssemu array fault volatile {lun} on, before what is to be lost",
            )
        if seed is None:
            seed = random.randrange(SEEDS)
        blocks = lost = 0
        has_power = not power.is_off
        power.is_off = True
        power.back_at = None if back_after is None else time.time() + back_after
        self._keep_power(power)
        if has_power:
            chain = self._chains.of(lun).chain
            with _keeping(lun):
                done = await self._run(power.supply.lose(chain, seed))
            blocks, lost = done.blocks, done.lost
            _log.warning("power_lost", origin=power.origin, seed=seed, blocks=blocks, lost=lost)
        self._instruments.schedule(power)
        return Loss(seed=seed, blocks=blocks, lost=lost)

    async def power_on(self, caller: Caller, lun: LunId) -> None:
        """Give a chain its power back."""
        power = self._of(lun).power
        if power.is_off and power.supply is not None:
            chain = self._chains.of(lun).chain
            with _keeping(lun):
                await self._run(self._come_back(power, power.supply, chain))

    def _come_back(self, power: ChainPower, supply: Supply, chain: Chain) -> Operation[None]:
        yield from supply.come_back(chain)
        power.is_off = False
        power.back_at = None
        self._keep_power(power)
        _log.info("power_back", origin=power.origin)

    def _due(self, origin: LunId) -> None:
        """Give a chain its power back whose time has come, unless it has it, or another time."""
        one = self._instruments.luns.get(origin)
        if one is None or one.power.supply is None or not one.power.is_off:
            return
        if one.power.back_at is None or one.power.back_at > time.time() + 0.01:
            return
        chain = self._chains.of(origin).chain
        self._worker.start(
            self._come_back(one.power, one.power.supply, chain),
            lambda result: _tell_failure(origin, result),
        )

    def _changed(self, power: ChainPower) -> None:
        for one in self._instruments.powered_by(power):
            with _keeping(one.lun):
                self._instruments.changed(one)

    def _keep_power(self, power: ChainPower) -> None:
        with _keeping(power.origin):
            self._instruments.keep(self._instruments.luns[power.origin])

    # --- logs

    async def record_writes(self, caller: Caller, lun: LunId, log: str) -> None:
        """Begin a recording, when what is being written has been done."""
        one, path = self._of(lun), Path(log)
        if one.recording is not None and one.recording.failed is None:
            if one.recording.path == path:
                return
            raise BadState(
                f"writes to LUN {lun} are recorded in {one.recording.path}",
                item=lun,
                hint=f"vssemu array writes stop {lun}",
            )
        self._check_place(path, one)
        chain = self._chains.of(lun).chain
        hold = chain.hold(lun, QUIET_SECONDS)
        try:
            if not await self._run(hold.quiet()):
                raise BadState(
                    f"what is being written to LUN {lun} does not end",
                    item=lun,
                    hint="are its requests stuck, or its power off?",
                )
            with _keeping(lun, log):
                header = LogHeader(lun=lun, size=one.bare.size)
                one.recording = Recording(path, LogWriter.create(path, header))
                self._instruments.changed(one)
        finally:
            hold.release()

    async def stop_writes(self, caller: Caller, lun: LunId) -> int:
        """End a recording."""
        one, recording = self._recorded(lun)
        one.recording = None
        with _keeping(lun):
            self._instruments.changed(one)
        recording.close()
        return recording.entries

    async def mark_writes(self, caller: Caller, lun: LunId, name: str) -> int:
        """Put a mark into a log."""
        _, recording = self._recorded(lun)
        recording.note(lambda log: log.mark(name))
        if recording.failed is not None:
            raise Fail(f"the log of LUN {lun} ended: {recording.failed}", item=lun)
        return recording.entries

    async def list_recordings(self, caller: Caller) -> list[WriteLogStatus]:
        """List what is recorded."""
        return [
            WriteLogStatus(
                lun=one.lun,
                log=str(one.recording.path),
                entries=one.recording.entries,
                failed=one.recording.failed,
            )
            for one in self._all()
            if one.recording is not None
        ]

    def _recorded(self, lun: LunId) -> tuple[Instrumented, Recording]:
        one = self._of(lun)
        if one.recording is None:
            raise BadState(
                f"writes to LUN {lun} are not recorded",
                item=lun,
                hint=f"vssemu array writes record {lun} --log FILE",
            )
        return one, one.recording

    def _check_place(self, log: Path, one: Instrumented) -> None:
        """Refuse a place in the pool, or one that is not absolute."""
        if not log.is_absolute():
            raise InvalidArgument(f"{log} is not an absolute path", item=str(log))
        with _keeping(one.lun, str(log)):
            luns = one.directory.parent.stat()
            for parent in log.parent.resolve(strict=True).joinpath("x").parents:
                if os.path.samestat(luns, parent.stat()):
                    raise InvalidArgument(
                        f"{log} lies in the pool", item=str(log), hint="choose another place"
                    )

    # --- LUNs

    def _all(self) -> list[Instrumented]:
        return [one for _, one in sorted(self._instruments.luns.items())]

    def _of(self, lun: LunId) -> Instrumented:
        """Return a LUN. Raises ObjectNotFound."""
        self._chains.of(lun)
        one = self._instruments.luns.get(lun)
        if one is None:
            raise ObjectNotFound(f"LUN {lun} is going", item=lun)
        return one


def _tell_failure(origin: LunId, result: object) -> None:
    if isinstance(result, OSError):
        _log.error("power_does_not_come_back", origin=origin, error=str(result))


@contextmanager
def _keeping(lun: LunId, item: str | None = None) -> Iterator[None]:
    """Turn an OSError into a VssError."""
    try:
        yield
    except OSError as error:
        where = "" if item is None else f"{item}: "
        raise Fail(f"LUN {lun}: {where}{error}", item=item or lun) from error
