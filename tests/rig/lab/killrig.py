"""Plays the cells of the kill table in a lab that they share, and looks at what is left."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.rig.lab.conftest import Labs
from tests.rig.lab.faultrig import faults_of
from tests.rig.lab.killtable import NOBODY, Point, Seen, Victim
from tests.rig.lab.labrig import (
    ENGINE,
    LUNFS,
    ONE,
    PERSISTENT,
    ROOT,
    TRANSPORTABLE,
    TWO,
    Rig,
    create,
    eventually,
    fill,
    import_set,
)
from tests.rig.lab.requesting import outcome
from tests.rig.lab.witness import Witness, attending
from vssemu import Context, Hresult
from vssemu.api import array as array_api
from vssemu.api import disks as disks_api
from vssemu.faults import Fault
from vssemu.lab.waiting import until
from vssemu.linux import loop
from vssemu.vss import steps
from vssemu.vss.array import ArrayLun, LunState
from vssemu.vss.host import SHADOW_FLAGS, GptFlags
from vssemu.vss.identity import LunId, SnapshotSetId
from vssemu.vss.steps import ArrivalStep, BreakStep, CreationStep

VSSD = "vssemu.daemons.vssd"
PROVIDER = "vssemu.daemons.provider_runner"
DEVICEFS = "vssemu_fuse.devicefs"
FINISHED = Hresult.VSS_S_ASYNC_FINISHED
GUARD = "vssemu.daemons.holdguard"
ARRAYD = "vssemu.daemons.arrayd"

WAIT = 90.0
"""Seconds for what comes by itself: restarts, and what is tried again every 15 s."""

HEARD = 200.0
"""Seconds until a requester has its answer. With an array that hangs each step of an undoing
takes its limit; all of it may take 120 s."""

_ACTS = {
    BreakStep.RELEASE: "break_set",
    BreakStep.FORGET: "break_set",
    BreakStep.MAKE_READ_WRITE: "break_for_writing",
    BreakStep.NOTIFY_READ_WRITE: "break_for_writing",
    BreakStep.TAKE_OFF: "mask",
    BreakStep.MASK: "mask",
    BreakStep.FORGET_MASKED: "mask",
}


def guard_of(rig: Rig, host: str) -> int:
    """Return the pid of a host's watchdog, 0 when it is between two lives."""
    for pid in rig.pids(None, GUARD):
        if f"/hosts/{host}/" in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    return 0


def answers(path: Path) -> bool:
    """Tell whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def _ends(witness: Witness) -> tuple[str, ...]:
    return tuple(e for e in witness.events if e in ("thaw", "abort", "backup shutdown"))


class Requester:
    """A requester at work. By default a thread of the test; one that is killed is a program."""

    def __init__(self, path: Path, act: str, argument: str, *, killable: bool) -> None:
        self._said = ""
        self._program: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, args=(act, path, argument))
        if killable:
            command = [sys.executable, "-m", "tests.rig.lab.requesting"]
            self._program = subprocess.Popen([*command, act, str(path), argument], cwd=ROOT)
        else:
            self._thread.start()

    def _run(self, act: str, path: Path, argument: str) -> None:
        try:
            self._said = outcome(act, path, argument)
        except BaseException as error:  # noqa: BLE001 - it is seen by the test
            self._said = repr(error)

    def kill(self) -> None:
        assert self._program is not None
        assert self._program.poll() is None, "the requester ended before"
        self._program.kill()
        self._program.wait(WAIT)

    def heard(self) -> str:
        """Return what it heard, when it has ended."""
        if self._program is not None:
            return NOBODY
        self._thread.join(HEARD)
        return "no answer" if self._thread.is_alive() else self._said

    def end(self) -> None:
        if self._program is not None and self._program.poll() is None:
            self._program.kill()
            self._program.wait(WAIT)


@dataclass(frozen=True)
class State:
    """What a lab has, for the comparison of before and after."""

    luns: frozenset[LunId]
    loops: Counter[str]
    mounts: Counter[str]

    def beside(self, other: "State") -> list[str]:
        """Return what this has and the other has not, and the other way round."""
        mine = Counter(self.luns) + self.loops + self.mounts
        its = Counter(other.luns) + other.loops + other.mounts
        new, gone = (mine - its).elements(), (its - mine).elements()
        return [*(f"new: {each}" for each in new), *(f"gone: {each}" for each in gone)]


class KillRig:
    """A lab of each engine with F: on systemOne, for as many cells as leave it whole."""

    def __init__(self, labs: Labs) -> None:
        self._labs = labs
        self._rigs: dict[str, Rig] = {}

    def rig(self, victim: Victim) -> Rig:
        """Return a lab that has a victim; a new one when the last cell spoilt the one before."""
        engine = "cow" if victim is Victim.LUNFS else ENGINE
        if engine not in self._rigs:
            rig = self._rigs[engine] = self._labs.new(engine=engine)
            rig.up("F:=64M")
            fill(rig.path(ONE, "/mnt/F/data"), files=4)
        return self._rigs[engine]

    def close(self) -> None:
        """Take the labs down."""
        while self._rigs:
            _, rig = self._rigs.popitem()
            rig.down()

    def play(self, victim: Victim, at: Point, wanted: Seen, signal_: int) -> Seen:
        """Play a cell and return what was seen; the lab is then as before.

        wanted: waited for. signal_: SIGKILL; with SIGSTOP the victim hangs instead, and goes on
        when the requester has its answer. Raises AssertionError for what must not be in any
        cell; the next one gets a new lab.
        """
        rig = self.rig(victim)
        try:
            return _Cell(rig, victim, at, signal_).play(wanted)
        except BaseException:
            print(*(f"{log}:\n{log.read_text()[-3000:]}" for log in rig.lab.logs()), sep="\n")
            self.close()
            raise


class _Cell:
    """One cell."""

    def __init__(self, rig: Rig, victim: Victim, at: Point, signal_: int) -> None:
        self.rig, self.victim, self.at, self.signal = rig, victim, at, signal_
        self.creates = at.sequence == steps.CREATION
        self.host = ONE if self.creates else TWO
        self.before = state(rig)
        self.set_id: SnapshotSetId | None = None

    def play(self, wanted: Seen) -> Seen:
        witness = Witness()
        with ExitStack() as stack:
            if self.creates:
                stack.enter_context(attending(self.rig, ONE, witness))
            with ExitStack() as creator:
                code = self._act(*self._arrange(creator))
                self._come_back()
                left = self._left(wanted.copies)
            until(lambda: _ends(witness) == wanted.writer, seconds=WAIT if self.creates else 0)
        self._clean_up()
        self._assert_works()
        self._assert_as_before()
        return Seen(code, left, _ends(witness))

    @property
    def _socket(self) -> Path:
        return self.rig.path(self.host, "/run/vssemu/vss.sock")

    # --- what runs

    def _arrange(self, creator: ExitStack) -> tuple[str, str]:
        """Return what the requester does; `creator` keeps open what must be so meanwhile."""
        if self.creates:
            comes_up = self.at.step in ArrivalStep
            return "create", str(int(Context.BACKUP if comes_up else TRANSPORTABLE))
        is_import = self.at.sequence == steps.IMPORT
        holder = creator.enter_context(self.rig.backup(ONE))
        made = create(holder, context=TRANSPORTABLE if is_import else PERSISTENT)
        self.set_id = made.set_id
        document = holder.save_as_xml()
        if is_import:
            file = self.rig.lab.paths.state / "killed.xml"
            file.write_text(document)
            return "import_set", str(file)
        with self.rig.backup(TWO) as importer:
            import_set(importer, document)
        act = _ACTS[self.at.step] if isinstance(self.at.step, BreakStep) else "delete"
        return act, str(made.set_id)

    def _act(self, act: str, argument: str) -> str:
        faults = faults_of(self.rig, self.host)
        faults.arm(Fault("service", self.at.name, "stop"))
        is_victim = self.victim is Victim.REQUESTER
        requester = Requester(self._socket, act, argument, killable=is_victim)
        pids: list[int] = []
        try:
            faults.wait_reached("service", self.at.name, seconds=WAIT)
            self._assert_marked()
            if is_victim:
                requester.kill()
            else:
                pids = self._strike()
            faults.clear()
            return requester.heard()
        finally:
            faults.clear()
            requester.end()
            for pid in pids if self.signal == signal.SIGSTOP else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _strike(self) -> list[int]:
        """Kill or stop the victim; returns its processes."""
        rig, host, victim = self.rig, self.host, self.victim
        if victim is Victim.HOST:
            rig.lab.power_off(host)
            return []
        pids = {
            Victim.VSSD: lambda: rig.pids(host, VSSD),
            Victim.PROVIDER: lambda: rig.pids(host, PROVIDER),
            Victim.DEVICEFS: lambda: rig.pids(host, DEVICEFS),
            Victim.ARRAYD: lambda: rig.pids(None, ARRAYD),
            Victim.HOLDGUARD: lambda: [guard_of(rig, host)],
            Victim.LUNFS: lambda: rig.pids(None, LUNFS),
        }[victim]()
        assert pids, f"{victim.value} does not run"
        descriptors = [os.pidfd_open(pid) for pid in pids]
        for pid in pids:
            os.kill(pid, self.signal)
        if self.signal == signal.SIGKILL:
            for descriptor in descriptors:
                # Readable for everybody at once, its parent too.
                assert select.select([descriptor], [], [], WAIT)[0]
            # Once the copies are taken there is time for the array, if not for much else.
            is_late = self._holds_writes and self.at > CreationStep.COMMIT
            if not self._holds_writes or (is_late and victim is Victim.ARRAYD):
                self._wait_back(victim)
        for descriptor in descriptors:
            os.close(descriptor)
        return pids

    def _assert_marked(self) -> None:
        """Fail unless F: has the bits of a copy between the rows that change them."""
        at = self.at
        if self.creates and not self._holds_writes:
            marked = at > CreationStep.SET_FLAGS and not at > CreationStep.CLEAR_FLAGS
            if at.step not in (CreationStep.SET_FLAGS, CreationStep.CLEAR_FLAGS):
                assert self._flags() == (SHADOW_FLAGS if marked else GptFlags.NONE)

    def _flags(self) -> GptFlags:
        (volume,) = [v for v in self.rig.volumes(ONE) if "F:\\" in v.letters]
        return GptFlags(volume.flags)

    @property
    def _holds_writes(self) -> bool:
        at = self.at
        return self.creates and at > CreationStep.HOLD and not at > CreationStep.RELEASE

    def _wait_back(self, victim: Victim) -> None:
        rig, host = self.rig, self.host
        match victim:
            case Victim.ARRAYD:
                eventually(lambda: rig.pids(None, ARRAYD), seconds=WAIT)
                eventually(lambda: answers(rig.lab.paths.array_socket), seconds=WAIT)
            case Victim.HOLDGUARD:
                guard = rig.path(host, "/run/vssemu/outside/holdguard.sock")
                eventually(lambda: guard_of(rig, host) and answers(guard), seconds=WAIT)
            case Victim.DEVICEFS:
                eventually(lambda: rig.pids(host, DEVICEFS), seconds=WAIT)
                rig.wait_service(host, "devicefs")
            case Victim.LUNFS:
                eventually(lambda: rig.pids(None, LUNFS), seconds=WAIT)
                rig.wait_shards()

    def _come_back(self) -> None:
        """Have everything run again."""
        if self.victim is Victim.HOST:
            self.rig.lab.start(self.host)
        if self.victim is Victim.VSSD:
            eventually(lambda: self.rig.pids(self.host, VSSD), seconds=WAIT)
        self._wait_back(self.victim)
        for host in (ONE, TWO):
            self.rig.wait_service(host)

    # --- what is left

    def _left(self, wanted: str) -> str:
        """Return what the array has of the set, as soon as it is what is wanted, or in the end."""
        until(lambda: self._copies() == wanted, seconds=WAIT)
        return self._copies()

    def _new(self) -> list[ArrayLun]:
        return [lun for lun in self.rig.inventory() if lun.id not in self.before.luns]

    def _copies(self) -> str:
        new = self._new()
        if not new:
            return "gone"
        states = {lun.state for lun in new}
        if states == {LunState.INDEPENDENT}:
            ids = {lun.id for lun in new}
            found = [v for v in self.rig.volumes(TWO) if ids & {e.lun_id for e in v.luns}]
            is_open = {GptFlags(v.flags) for v in found} == {GptFlags.NONE}
            return "independent" + (", writable" if is_open else "")
        return ", ".join(sorted(each.value for each in states))

    def _clean_up(self) -> None:
        """Do what is the administrator's to do."""
        for lun in self._new():
            if lun.state is LunState.PREPARED:
                continue
            with self.rig.vss(TWO) as vss, self.rig.lab.array() as array:
                if lun.state is LunState.IMPORT_FAILED:
                    assert self.set_id is not None
                    assert vss.client.call(disks_api.clean_up, self.set_id) == [lun.id]
                    continue
                if lun.state is LunState.CLAIMED:
                    assert outcome("delete", self._socket, str(self.set_id)) == "ok"
                    continue
                if lun.masked_to:
                    vss.client.call(disks_api.mask, lun.id)
                array.call(array_api.delete_lun, lun.id)

    def _assert_as_before(self) -> None:
        """Fail unless nothing is frozen, marked or left."""
        self.rig.assert_writable(ONE)
        until(lambda: state(self.rig) == self.before, seconds=WAIT)
        left = state(self.rig).beside(self.before)
        assert not left, "\n".join(left)
        assert until(lambda: self._flags() == GptFlags.NONE, seconds=WAIT)
        assert not faults_of(self.rig, self.host).standing()

    def _assert_works(self) -> None:
        """Fail unless the next creation, and the next import, go well."""
        with self.rig.backup(ONE) as creator:
            create(creator)
            if not self.creates:
                with self.rig.backup(TWO) as importer:
                    assert import_set(importer, creator.save_as_xml()) == FINISHED
        until(lambda: not self._new(), seconds=WAIT)
        assert not self._new()


def state(rig: Rig) -> State:
    """Return what a lab has."""
    luns = rig.lun_ids()
    # A path begins where the array's mount of the pool did, which a restart of it changes.
    names = [bound.backing_file.rpartition("/luns/")[2] for bound in loop.bound_loops()]
    mounts: Counter[str] = Counter()
    for host in (ONE, TWO):
        lines = rig.path(host, "/proc/1/mountinfo").read_text().splitlines()
        mounts.update(f"{host}: {line.split()[4]}" for line in lines)
    return State(
        luns=frozenset(luns),
        loops=Counter(name for name in names if any(lun in name for lun in luns)),
        mounts=mounts,
    )
