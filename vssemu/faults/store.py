"""The directory of the faults that are armed, shared by who arms and by who runs into them.

    DIR/WHERE/NAME        the fault that is armed at a point, JSON
    DIR/WHERE/NAME@N      a ticket: a process stands at the point until the file is gone

The directory is locked while a file in it changes; files are replaced, never written in
place. A ticket is locked by who stands there, so that one of a dead process says nothing.
There is no directory before something was armed.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from vssemu.faults import names
from vssemu.faults.plan import Fault
from vssemu.linux import locks
from vssemu.vss.errors import Fail, InvalidArgument

HOST_DIRECTORY: Final = Path("/var/lib/vssemu/faults")
"""Of a host, as it is seen from inside."""

_LOCK_SECONDS: Final = 10.0
_PAUSE: Final = 0.01
_TICKET: Final = re.compile(r"[^@~]+@[0-9]+-[0-9]+")


class Ticket:
    """A process stands at a point, from its making until `close`. Made by the store."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @property
    def is_released(self) -> bool:
        """Whether it may go on."""
        return not self._path.exists()

    def close(self) -> None:
        """Stand there no longer."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


class FaultStore:
    """The armed faults of the processes that were given this directory. Blocking.

    Methods raise OSError, and InvalidArgument for a file that is no fault.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    # -- for tests ---------------------------------------------------------------------------

    def arm(self, fault: Fault) -> None:
        """Have a fault happen from now on, in place of what was armed at its point.

        Raises ObjectNotFound for a point that there is not.
        """
        names.check(fault.where, fault.name)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            self._write(fault)

    def armed(self) -> list[Fault]:
        """Return the armed faults, with the counts that are left."""
        files = sorted(self.directory.glob("*/*"))
        found = [self._read(path) for path in files if not set("@~") & set(path.name)]
        return [fault for fault in found if fault is not None]

    def clear(self, where: str | None = None, name: str | None = None) -> int:
        """Disarm everything, or what is at one place or point, and let go who stands there.

        Returns how many faults were armed. There being none is no error.
        """
        if not self.directory.is_dir():
            return 0
        count = 0
        with self._locked():
            for path in self.directory.glob(f"{where or '*'}/*"):
                point = path.name.partition("@")[0].rstrip("~")
                if name in (None, point):
                    count += path.name == point
                    path.unlink(missing_ok=True)
        return count

    def reached(self, where: str, name: str) -> bool:
        """Tell whether a process stands at a point, by `stop` or `hang`."""
        return any(self._is_held(path) for path in self._tickets(where, name))

    def standing(self) -> list[tuple[str, str]]:
        """Return the points, as (where, name), at which a process stands."""
        held = [path for path in self._tickets("*", "*") if self._is_held(path)]
        return sorted({(path.parent.name, path.name.partition("@")[0]) for path in held})

    def wait_reached(self, where: str, name: str, *, seconds: float = 60.0) -> None:
        """Return when a process stands at a point. Raises Fail when none does in time."""
        deadline = time.monotonic() + seconds
        while not self.reached(where, name):
            if time.monotonic() >= deadline:
                raise Fail(f"{where} did not reach {name} within {seconds:g} s", item=name)
            time.sleep(_PAUSE)

    def release(self, where: str, name: str) -> bool:
        """Let go who stands at a point; tell whether somebody did."""
        with suppress(FileNotFoundError), self._locked():
            tickets = self._tickets(where, name)
            held = [path for path in tickets if self._is_held(path)]
            for path in tickets:
                path.unlink(missing_ok=True)
            return bool(held)
        return False

    # -- for points --------------------------------------------------------------------------

    def path_of(self, where: str, name: str) -> str:
        """Return the file that is there while something is armed at a point."""
        return f"{self.directory}/{where}/{name}"

    def take(self, where: str, name: str) -> tuple[Fault, Ticket | None] | None:
        """Count a passage of a point; return the fault that happens there now, or None.

        It is counted in the directory first: a process that dies of it does not die again.
        With a fault that waits comes its ticket, which the caller closes.
        """
        with suppress(FileNotFoundError), self._locked():
            path = Path(self.path_of(where, name))
            fault = self._read(path)
            if fault is None:
                return None
            happens, left = fault.passed()
            if left is None:
                path.unlink()
            elif left != fault:
                self._write(left)
            if happens:
                return fault, self._ticket(fault) if fault.waits else None
        return None

    def _ticket(self, fault: Fault) -> Ticket:
        place = self.path_of(fault.where, fault.name)
        path = Path(f"{place}@{os.getpid()}-{time.monotonic_ns()}")
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        locks.try_lock(descriptor)
        return Ticket(path, descriptor)

    # -- files -------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with locks.locked(self.directory, seconds=_LOCK_SECONDS):
            yield

    def _tickets(self, where: str, name: str) -> list[Path]:
        return [p for p in self.directory.glob(f"{where}/{name}@*") if _TICKET.fullmatch(p.name)]

    @staticmethod
    def _is_held(path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not locks.try_lock(descriptor, shared=True)
        finally:
            os.close(descriptor)

    def _write(self, fault: Fault) -> None:
        path = Path(self.path_of(fault.where, fault.name))
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = path.with_name(f"{path.name}~")
        temporary.write_bytes(msgspec.json.encode(fault))
        temporary.replace(path)

    @staticmethod
    def _read(path: Path) -> Fault | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Fault)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise InvalidArgument(
                f"{path} is no fault: {error}", hint="vssemu fault clear", item=str(path)
            ) from error
