"""A lab in which things go wrong on demand: the faulty provider, the faulty writer, and what
has to hold after each fault."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID, uuid5

from tests.rig.lab.labrig import ONE, VSSEMU, Rig, eventually, prepared
from tests.rig.lab.witness import Witness
from vssemu import Hresult
from vssemu.api import registry
from vssemu.faults import Fault, FaultStore
from vssemu.faults.plan import Action
from vssemu.rpc import client as rpc
from vssemu.vss.enums import ProviderType
from vssemu.vss.errors import ProviderInUse, VssError
from vssemu.vss.host import GptFlags
from vssemu.vss.identity import LunId, ProviderId
from vssemu.writers import faulty

FAULTY_ID = ProviderId(UUID("fa017e57-8d1c-4f6e-a2c5-3b9406d7e811"))


@dataclass(frozen=True)
class What:
    """What is to happen, without where; `id` names it in the names of tests."""

    id: str
    action: Action
    value: str | float | None = None

    def at(self, where: str, point: str, **counts: int) -> Fault:
        """Return it as a fault at a point."""
        return Fault(where, point, self.action, self.value, **counts)


VETO = What("veto", "code", "VSS_E_PROVIDER_VETO")
UNDOCUMENTED = What("undocumented", "code", "VSS_E_HOLD_WRITES_TIMEOUT")
RETRYABLE = What("retryable", "code", "VSS_E_WRITERERROR_RETRYABLE")
RAISE = What("raise", "raise", "nobody expects this")
CRASH = What("crash", "crash")
DELAY = What("delay", "delay", 0.3)


def faults_of(rig: Rig, host: str = ONE) -> FaultStore:
    """Return the faults of a host, reached from outside."""
    return FaultStore(rig.lab.paths.host_state(host) / "var" / "faults")


def register(vss: rpc.Client) -> None:
    """Register the faulty provider on a host, around the array's own."""
    vss.call(
        registry.register_provider,
        provider_id=FAULTY_ID,
        class_id=FAULTY_ID,
        name="faulty provider",
        type=ProviderType.HARDWARE,
        version="1",
        version_id=uuid5(FAULTY_ID, "1"),
        command=[VSSEMU, "provider", "run", "vssemu.providers.faulty:FaultyProvider"],
        config={},
    )


@contextmanager
def registered(rig: Rig, *hosts: str) -> Iterator[None]:
    """Have the faulty provider on hosts during the block."""
    for host in hosts:
        with rig.vss(host) as vss:
            register(vss.client)
    yield
    for host in hosts:
        faults_of(rig, host).clear()
        # What an abort that failed has left is undone a moment later.
        eventually(partial(_unregistered, rig, host), seconds=30)


def _unregistered(rig: Rig, host: str) -> bool:
    with rig.vss(host) as vss:
        try:
            vss.client.call(registry.unregister_provider, FAULTY_ID)
        except ProviderInUse:
            return False
    return True


@contextmanager
def stopped_at(rig: Rig, point: str, host: str = ONE) -> Iterator[Callable[[], None]]:
    """Have the faulty provider of a host stop at a point; gives what waits until it is there.

    It is let go at the end of the block.
    """
    faults = faults_of(rig, host)
    faults.arm(Fault("provider", point, "stop"))
    try:
        yield lambda: faults.wait_reached("provider", point, seconds=20)
    finally:
        faults.clear("provider", point)


def writer_names(rig: Rig) -> list[str]:
    """Return the names of the writers that answer on systemOne."""
    with rig.backup(ONE) as backup:
        backup.initialize_for_backup()
        return [writer.name for writer in backup.gather_writer_metadata()]


class FaultyWriterProgram:
    """The faulty writer as a program on systemOne; it has the files in F:\\data."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._running = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Start it unless it runs, and wait until it takes part."""
        eventually(self._takes_part, seconds=60)

    def _takes_part(self) -> bool:
        # One that was killed may be noticed by its starter a moment later.
        if self._process is None or self._process.poll() is not None:
            argv = (VSSEMU, "writer", "faulty", "docs=/mnt/F/data")
            self._process = self._running.enter_context(self._rig.running(ONE, *argv))
        return faulty.NAME in writer_names(self._rig)

    def stop(self) -> None:
        """End it."""
        self._running.close()


@contextmanager
def faulty_writer(rig: Rig) -> Iterator[FaultyWriterProgram]:
    """Have the faulty writer on systemOne during the block."""
    program = FaultyWriterProgram(rig)
    try:
        program.ensure()
        yield program
    finally:
        program.stop()


@dataclass(kw_only=True)
class Attempt:
    """What came of one creation.

    witnessed: events of a well-behaved writer beside, until then. failures: writers that failed,
    by name, each with its code.
    """

    code: Hresult = Hresult.S_OK
    fact: str = ""
    witnessed: list[str] = field(default_factory=list)
    failures: dict[str, Hresult] = field(default_factory=dict)

    @property
    def ends(self) -> list[str]:
        """The events that end a freeze, or what was prepared."""
        return [event for event in self.witnessed if event in {"thaw", "abort"}]


def attempt(rig: Rig, witness: Witness, *, context: int, complete: bool = False) -> Attempt:
    """Create a set of F: with the faulty provider, and end it by release.

    complete: with BackupComplete before. What fails is in the answer.
    """
    witness.events.clear()
    made = Attempt()
    with rig.backup(ONE) as backup:
        try:
            prepared(backup, context=context, provider=FAULTY_ID)
            backup.do_snapshot_set()
            if complete:
                backup.backup_complete()
        except VssError as error:
            made.code, made.fact = error.hresult, error.fact
        made.failures = {
            status.name: status.failure
            for status in backup.gather_writer_status()
            if status.failure is not Hresult.S_OK
        }
        made.witnessed = list(witness.events)
        if made.code is not Hresult.S_OK:
            backup.abort_backup()
    return made


def assert_all_is_well(rig: Rig, luns: set[LunId]) -> None:
    """Nothing is armed, frozen, marked or left."""
    eventually(lambda: faults_of(rig).armed() == [])
    assert faults_of(rig).standing() == []
    rig.assert_writable(ONE)
    eventually(lambda: rig.lun_ids() == luns, seconds=30)
    (volume,) = [v for v in rig.volumes(ONE) if "F:\\" in v.letters]
    assert GptFlags(volume.flags) == GptFlags.NONE
