"""The connection to the VSS service, made when a command first needs it, and what hangs on it.

Owns no state of DiskShadow's; every failure leaves as `Failed` with the call's name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

from vssemu.api import blocking, disks
from vssemu.api.blocking import Async, BackupComponents, BoundOperation, Vss
from vssemu.rpc.errors import RpcError
from vssemu.rpc.interface import Method
from vssemu.tools.diskshadow.failures import Failed, calling
from vssemu.vss.attributes import Context
from vssemu.vss.errors import VssError
from vssemu.vss.host import Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.snapshot import SnapshotProperties

P = ParamSpec("P")
R = TypeVar("R")

WAIT_SLICE = 0.5
"""Seconds of one wait: Ctrl-C is noticed at once, but the abort queues behind a wait."""


def connect() -> Vss:
    """Connect to the VSS service of this host."""
    return blocking.connect()


class Requester:
    """One connection, made anew when it broke."""

    def __init__(self, connect: Callable[[], Vss] = connect) -> None:
        self._connect = connect
        self._vss: Vss | None = None

    @property
    def vss(self) -> Vss:
        """The connection. Raises OSError when there is no service."""
        if self._vss is None or self._vss.client.is_over:
            self._vss = self._connect()
        return self._vss

    def open(self) -> BackupComponents:
        """Return a new requester object, not yet initialised; the caller releases it."""
        try:
            vss = self.vss
        except OSError as error:
            raise Failed(
                "",
                'COM call "CreateVssBackupComponents(&vssObject)" failed.',
                f"no VSS service answers at {error.filename}: {error.strerror}"
                " [run this inside a host: vssemu lab exec HOST -- diskshadow]",
            ) from error
        with calling("CreateVssBackupComponents(&vssObject)"):
            return vss.backup_components()

    @contextmanager
    def backup(self, context: int, document: str | None = None) -> Iterator[BackupComponents]:
        """Give an initialised object for the block, and release it after that."""
        vss_object = self.open()
        try:
            initialize(vss_object, context, document)
            yield vss_object
        finally:
            release(vss_object)

    def everything(self) -> list[SnapshotProperties]:
        """Return all shadow copies of this host."""
        with (
            self.backup(int(Context.ALL)) as vss_object,
            calling("vssObject->Query(VSS_OBJECT_SNAPSHOT)"),
        ):
            return vss_object.query()

    def volumes(self) -> list[Volume]:
        """Return the volumes of this host."""
        return self.disks("QueryVolumes", disks.list_volumes)

    def disks(self, name: str, method: Method[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of io.vssemu.Disks. name: how a failure calls it."""
        with calling(f"vdsService->{name}"):
            return self.vss.client.call(method, *args, **kwargs)

    def close(self) -> None:
        """End the connection, and with it every object."""
        if self._vss is not None:
            self._vss.close()
            self._vss = None


def initialize(vss_object: BackupComponents, context: int, document: str | None = None) -> None:
    """Initialise an object and set its context."""
    with calling("vssObject->InitializeForBackup"):
        vss_object.initialize_for_backup(document)
    with calling(f"vssObject->SetContext(0x{context & 0xFFFFFFFF:08x})"):
        vss_object.set_context(context)


def release(vss_object: BackupComponents) -> None:
    """Release an object; that it is gone already is as good."""
    with suppress(VssError, RpcError, OSError):
        vss_object.release()


def finish(operation: BoundOperation[P], *args: P.args, **kwargs: P.kwargs) -> Hresult:
    """Run an asynchronous method to its end; Ctrl-C passes within `WAIT_SLICE`."""
    return wait(operation.begin(*args, **kwargs))


def wait(running: Async) -> Hresult:
    """Wait for the end of what was begun. Raises the VssError that it ended with."""
    result = running.wait(WAIT_SLICE)
    while result == Hresult.VSS_S_ASYNC_PENDING:
        result = running.wait(WAIT_SLICE)
    return result
