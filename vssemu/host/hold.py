"""The hold: all writes to some volumes stopped at once, for a short time, whatever happens.

    1. syncfs of every volume, so that little is left to write
    2. holdguard gets a descriptor of each and answers that it is on watch
    3. FIFREEZE of all in parallel threads; one after the other is fifty times slower
    4. the block runs
    5. FITHAW of all in parallel, then the guard is released

From 3 to 5 a limit runs, here and in the guard. A freeze that comes back after the hold was
given up thaws itself. Refuses to know what happens inside the block, and to freeze anything
but the device that it was told: a directory whose mount has gone leads to another one.
"""

import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.host.border import failures, vss_error
from vssemu.host.guard import Guard, armed
from vssemu.linux import freeze
from vssemu.linux.blockdev import DeviceNumber
from vssemu.vss.errors import (
    FlushWritesTimeout,
    HoldWritesTimeout,
    Unexpected,
    VolumeNotSupported,
    VssError,
)
from vssemu.vss.host import Held, HeldVolume

THAW_LIMIT: Final = 30.0
"""Seconds; a thaw takes milliseconds, and the guard makes a second attempt anyhow."""

PROBE_LIMIT: Final = 5.0
"""Seconds for the trial freeze of one volume."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A volume to hold: its name, a directory it is mounted at, and its device.

    filesystem: its type, for messages.
    """

    volume: str
    directory: Path
    device: DeviceNumber
    filesystem: str = "unknown"


class _Freeze:
    """One file system's freeze; owns its descriptor, which the last user closes."""

    def __init__(self, target: Target) -> None:
        self.volume = target.volume
        self.filesystem = target.filesystem
        self.error: OSError | None = None
        self.flushed = False
        self.frozen = False
        self.thawed_by_us = False
        # Of time.perf_counter: trio's clock cannot be read in a thread.
        self.frozen_at: float | None = None
        self.thawed_at: float | None = None
        self._given_up = False
        self._running = False
        descriptor = freeze.open_directory(target.directory)
        # list.pop is one step: of two threads that end this, one gets the descriptor.
        self._owned = [descriptor]
        try:
            found = os.fstat(descriptor).st_dev
            if found != os.makedev(target.device.major, target.device.minor):
                path = str(target.directory)
                raise OSError(errno.ESTALE, "the volume is not mounted there any more", path)
        except OSError:
            os.close(self._owned.pop())
            raise

    @property
    def descriptor(self) -> int:
        """The descriptor while it is open."""
        return self._owned[0]

    def flush(self) -> None:
        """Write out what is dirty."""
        try:
            freeze.syncfs(self.descriptor)
            self.flushed = True
        except OSError as error:
            self.error = error

    def run(self) -> None:
        """Freeze, and thaw at once if the hold was given up meanwhile."""
        self._running = True
        try:
            # Once given up the descriptor may be closed, and its number another file's.
            if not self._is_given_up():
                freeze.freeze(self.descriptor)
                self.frozen_at = time.perf_counter()
                self.frozen = True
        except OSError as error:
            self.error = error
        finally:
            self._running = False
            if self._is_given_up():
                self._thaw()

    def end(self) -> None:
        """Thaw and close; left to the freezing thread while the kernel has that one."""
        self._given_up = True
        if not self._running:
            self._thaw()

    def _is_given_up(self) -> bool:
        # Another thread changes it at any moment; each question is a new one.
        return self._given_up

    def _thaw(self) -> None:
        try:
            descriptor = self._owned.pop()
        except IndexError:
            return
        try:
            if self.frozen:
                freeze.thaw(descriptor)
                self.thawed_at = time.perf_counter()
                self.thawed_by_us = True
        except OSError as error:
            if error.errno != errno.EINVAL:
                _log.error("thaw failed", volume=self.volume, reason=str(error))
        finally:
            os.close(descriptor)


async def _in_threads(functions: Sequence[Callable[[], None]], *, abandon: bool) -> None:
    """Run functions that raise nothing, all at the same time, each in a thread."""
    limiter = trio.CapacityLimiter(max(1, len(functions)))

    async def run(function: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(function, abandon_on_cancel=abandon, limiter=limiter)

    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(run, function)


@asynccontextmanager
async def _opened(targets: Sequence[Target]) -> AsyncIterator[list[_Freeze]]:
    freezes: list[_Freeze] = []
    try:
        with failures("hold"):
            for target in targets:
                # One by one, so that what was opened is closed when a later one fails.
                opened = await trio.to_thread.run_sync(_Freeze, target)
                freezes.append(opened)
        yield freezes
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + THAW_LIMIT):
            await _in_threads([each.end for each in freezes], abandon=True)


@asynccontextmanager
async def hold(
    targets: Sequence[Target], limit: float, *, guard: Path, tasks: trio.Nursery
) -> AsyncIterator[Held]:
    """Hold all writes to the targets while the block runs.

    limit: seconds, for the flush before the hold and, anew, for the hold itself. guard:
    holdguard's socket. tasks: where the watch on the guard runs.
    Raises FlushWritesTimeout when the writes cannot be stopped in time; HoldWritesTimeout when
    the limit passes, the guard is not there or dies, or somebody else froze or thawed a volume:
    the block is cancelled first. Raises VolumeNotSupported when a file system cannot freeze.
    """
    held = Held(volumes=tuple(target.volume for target in targets))
    if not targets:
        yield held
        return
    async with _opened(targets) as freezes:
        await _flush(freezes, limit)
        begun = trio.current_time()
        descriptors = [each.descriptor for each in freezes]
        async with armed(guard, descriptors, limit) as watch:
            with trio.CancelScope(deadline=begun + limit) as window:
                tasks.start_soon(watch.watch, window)
                started = held.began = trio.current_time()
                try:
                    await _freeze(freezes)
                    yield held
                finally:
                    with trio.CancelScope(shield=True, deadline=_soon(THAW_LIMIT)):
                        await _in_threads([each.end for each in freezes], abandon=True)
                        held.seconds = trio.current_time() - started
                        held.windows = _windows(freezes)
                        await watch.release()
            _judge(freezes, watch, window, limit)


def _windows(freezes: Sequence[_Freeze]) -> tuple[HeldVolume, ...]:
    ahead = trio.current_time() - time.perf_counter()
    return tuple(
        HeldVolume(
            volume=each.volume,
            frozen=None if each.frozen_at is None else each.frozen_at + ahead,
            thawed=None if each.thawed_at is None else each.thawed_at + ahead,
        )
        for each in freezes
    )


def _soon(seconds: float) -> float:
    return trio.current_time() + seconds


async def _flush(freezes: Sequence[_Freeze], limit: float) -> None:
    with trio.move_on_after(limit):
        await _in_threads([each.flush for each in freezes], abandon=True)
    for each in freezes:
        if each.error is not None:
            raise vss_error(each.error, f"flush of {each.volume}") from each.error
        if not each.flushed:
            raise FlushWritesTimeout(
                f"{each.volume}: its dirty data were not written within {limit:g} s",
                hint="the storage under the volume is too slow for the load on it",
                item=each.volume,
            )


async def _freeze(freezes: Sequence[_Freeze]) -> None:
    await _in_threads([each.run for each in freezes], abandon=True)
    for each in freezes:
        if each.error is not None:
            raise _refused(each.error, each.volume, each.filesystem) from each.error


def _refused(error: OSError, volume: str, filesystem: str) -> VssError:
    if error.errno == errno.EBUSY:
        hint = "thaw it (fsfreeze -u) and try again"
        return HoldWritesTimeout(f"{volume}: is frozen already", hint=hint, item=volume)
    if error.errno in {errno.EOPNOTSUPP, errno.ENOTTY}:
        fact = f"{volume}: its file system, {filesystem}, cannot be frozen"
        return VolumeNotSupported(fact, item=volume)
    return vss_error(error, f"freeze of {volume}")


def _judge(
    freezes: Sequence[_Freeze], watch: Guard, window: trio.CancelScope, limit: float
) -> None:
    """Raise unless every volume was held from the first freeze to the end of the block."""
    late = [each.volume for each in freezes if not each.frozen]
    if window.cancelled_caught and trio.current_time() >= window.deadline:
        if late:
            fact = f"{late[0]}: its writes were not stopped within {limit:g} s"
            raise FlushWritesTimeout(fact, item=late[0])
        raise HoldWritesTimeout(f"writes were held for {limit:g} s, which is the limit")
    if window.cancelled_caught or not watch.kept:
        raise HoldWritesTimeout("holdguard ended the hold, or died while it was on watch")
    for each in freezes:
        if not each.thawed_by_us:
            fact = f"{each.volume}: somebody else thawed it during the hold"
            raise HoldWritesTimeout(fact, item=each.volume)


async def probe(target: Target, *, guard: Path, tasks: trio.Nursery) -> None:
    """Freeze a file system and thaw it at once.

    Raises VolumeNotSupported when it cannot be frozen, else as `hold`.
    """
    async with hold([target], PROBE_LIMIT, guard=guard, tasks=tasks) as held:
        if target.volume not in held.volumes:
            raise Unexpected(f"{target.volume}: the trial hold did not take it")


def carries(target: Target, own: Sequence[Path]) -> Path | None:
    """Return the first of our own paths that lies on the target's device."""
    device = os.makedev(target.device.major, target.device.minor)
    for path in own:
        try:
            if path.stat().st_dev == device:
                return path
        except OSError:
            continue
    return None
