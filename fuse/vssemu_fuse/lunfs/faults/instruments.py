"""What stands between the LUNs of a shard and their bytes: faults, power, logs.

    names ─ FaultyView ─ LoggedView ─ PoweredView ─ the chain's view … its disks ─ VolatileDisk

Each is there only while it is wanted. Owns what is set, and what of it is kept in the LUN's
directory (see `plans`). What is asked of it comes through `faultcontrol`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vssemu import logs
from vssemu.faults.writelog import LogWriter
from vssemu.vss.errors import VssError
from vssemu.vss.identity import LunId
from vssemu_fuse.lunfs.faults import plans
from vssemu_fuse.lunfs.faults.faulty import FaultyView, Parking, SetFault
from vssemu_fuse.lunfs.faults.logged import LoggedView, Recording
from vssemu_fuse.lunfs.faults.plans import Plan
from vssemu_fuse.lunfs.faults.power import PoweredView, Supply
from vssemu_fuse.lunfs.fuse.names import Names
from vssemu_fuse.lunfs.io.disk import Disk, FileDisk
from vssemu_fuse.lunfs.io.view import View
from vssemu_fuse.lunfs.io.work import Worker

_log = logs.get_logger(__name__)


@dataclass(kw_only=True, slots=True, eq=False)
class ChainPower:
    """The power of a chain. supply: None while it is not volatile. back_at: as in `Plan`."""

    origin: LunId
    supply: Supply | None = None
    is_off: bool = False
    back_at: float | None = None


@dataclass(kw_only=True, slots=True, eq=False)
class Instrumented:
    """A LUN. bare: the view of its chain."""

    lun: LunId
    directory: Path
    bare: View
    power: ChainPower
    faults: list[SetFault] = field(default_factory=list)
    recording: Recording | None = None


class Instruments:
    """The instruments of a shard's LUNs. Implements `served.Fittings`.

    make_room: called with the number of requests that stay long, which must not be in the way
    of others. on_due: called with an origin whose power is to come back; to be set.
    """

    def __init__(self, names: Names, worker: Worker, make_room: Callable[[int], object]) -> None:
        self._names = names
        self._worker = worker
        self._parking = Parking(worker, make_room)
        self._directory = Path()
        self._power: dict[LunId, ChainPower] = {}
        self.luns: dict[LunId, Instrumented] = {}
        self.on_due: Callable[[LunId], object] = lambda _origin: None

    # --- for the shard

    def open(self, directory: Path) -> None:
        """Work on the LUNs' directories in this one; to be called once, before all else."""
        self._directory = directory

    def disk(self, origin: LunId, path: Path) -> Disk:
        """Open an image or store of a chain. Raises OSError."""
        disk = FileDisk.open(path)
        supply = self._power_of(origin).supply
        return disk if supply is None else supply.plug(disk, disk_name(path))

    def view(self, origin: LunId, lun: LunId, view: View) -> View:
        """Return what is served instead of a node's view, with all that is set against it."""
        one = self.luns.get(lun)
        if one is None:
            one = self.luns[lun] = self._kept(origin, lun, view)
        one.bare = view
        return self._wrapped(one)

    def forget(self, lun: LunId) -> None:
        """Let go of what is held for a LUN that goes; unknown is no error."""
        self._power.pop(lun, None)
        one = self.luns.pop(lun, None)
        if one is not None:
            for fault in one.faults:
                fault.release()
            if one.recording is not None:
                one.recording.close()

    # --- for the control

    def changed(self, one: Instrumented) -> None:
        """Keep what is set against a LUN now, and serve it so. Raises OSError."""
        self.keep(one)
        self._names.add(one.lun, self._wrapped(one))

    def keep(self, one: Instrumented) -> None:
        """Keep what is set against a LUN now. Raises OSError."""
        power = one.power if one.power.origin == one.lun else ChainPower(origin=one.lun)
        plans.write(
            one.directory,
            Plan(
                faults=tuple(plans.kept_fault(fault) for fault in one.faults),
                log=None if one.recording is None else str(one.recording.path),
                volatile=power.supply is not None,
                off=power.is_off,
                back_at=power.back_at,
            ),
        )

    def powered_by(self, power: ChainPower) -> list[Instrumented]:
        """Return all LUNs of a supply."""
        return [one for one in self.luns.values() if one.power is power]

    def schedule(self, power: ChainPower) -> None:
        """Call `on_due` when the power of a chain is to come back."""
        if power.back_at is not None:
            seconds = max(0.0, power.back_at - time.time())
            due = time.monotonic() + seconds
            self._worker.at(due, lambda: self.on_due(power.origin))

    # --- inside

    def _wrapped(self, one: Instrumented) -> View:
        view = one.bare
        if one.power.supply is not None:
            view = PoweredView(view, one.power.supply)
        if one.recording is not None:
            view = LoggedView(view, one.recording)
        if one.faults:
            view = FaultyView(view, one.faults, self._parking, lambda: self._count(one))
        return view

    def _count(self, one: Instrumented) -> None:
        """Keep the counts of faults."""
        try:
            self.keep(one)
        except OSError as error:
            _log.warning("counts_not_kept", lun=one.lun, error=str(error))

    def _kept(self, origin: LunId, lun: LunId, view: View) -> Instrumented:
        power = self._power_of(origin)
        directory = self._directory / lun
        plan = plans.read(directory)
        one = Instrumented(lun=lun, directory=directory, bare=view, power=power)
        one.faults = [plans.set_fault(kept) for kept in plan.faults]
        if plan.log is not None:
            one.recording = _resumed(Path(plan.log), lun)
        if power.supply is not None and power.is_off and not power.supply.is_off:
            # It was off before a restart, and the chain has been read by now.
            power.supply.stay_off()
            self.schedule(power)
        return one

    def _power_of(self, origin: LunId) -> ChainPower:
        """Return the power of a chain, whose first disk is not yet open when it is read."""
        power = self._power.get(origin)
        if power is None:
            plan = plans.read(self._directory / origin)
            power = self._power[origin] = ChainPower(
                origin=origin,
                supply=Supply() if plan.volatile else None,
                is_off=plan.off,
                back_at=plan.back_at,
            )
        return power


def disk_name(path: Path) -> str:
    """Return the name of a disk among those of its chain: LUN and file."""
    return f"{path.parent.name}/{path.name}"


def _resumed(log: Path, lun: LunId) -> Recording:
    """Go on with a log; one that cannot be gone on with has ended, and says why."""
    try:
        return Recording(log, LogWriter.resume(log, lun))
    except (OSError, VssError) as error:
        _log.warning("write_log_ended", log=str(log), error=str(error))
        return Recording(log, None, failed=str(error))
