"""Notes what happens into the trace of the requester object for which it happens.

The requester's calls set the recorder of their session for the task that serves them, and
whatever runs below them, in child tasks too, notes itself there: a provider or a writer is
called from many places, and none of them has to hand a recorder on. What runs for no
requester (the recovery, say) notes nothing.

Entries go to the trace's file at the begin and the end of calls and phases, but never while
writes are held; after SIGKILL the file has what was known at the last of these moments, of a
service that died in the hold that the hold had begun.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import fields
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import uuid4

import trio

from vssemu.linux import processes
from vssemu.service.events import EventLog
from vssemu.service.record import (
    ABANDONED,
    CANCELLED,
    LISTS,
    OK,
    RUNNING,
    Head,
    Hold,
    Phase,
    Record,
    Request,
    Requester,
    Span,
    TracedVolume,
    VolumeHold,
    code_text,
    short,
)
from vssemu.service.tracefiles import TraceFile, TraceFiles
from vssemu.vss.attributes import Attribute, context_of
from vssemu.vss.errors import InvalidArgument, VssError
from vssemu.vss.host import Held, Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import SnapshotId, SnapshotSetId, braced
from vssemu.vss.snapshot import SnapshotDescription

MAX_ENTRIES: Final = 4000
"""Entries of one trace; a set of 64 volumes with 20 writers has some 700."""

DECIDING: Final = {
    "creation": ("DoSnapshotSet",),
    "import": ("ImportSnapshots",),
    "deletion": ("DeleteSnapshots",),
    "break": ("BreakSnapshotSet", "BreakSnapshotSetEx"),
}
"""Kind of a trace -> the requester's calls whose outcome is the trace's."""

_LIST_OF: Final = {cls: name for name, cls in LISTS.items()}

E = TypeVar("E", bound=Span)

_current: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


class Recorder:
    """The trace of one requester object in the making. It has a file once it is of something."""

    def __init__(
        self, files: TraceFiles, log: EventLog, *, host: str, requester: Requester
    ) -> None:
        self._files = files
        self._log = log
        self._began = trio.current_time()
        started = datetime.now(UTC)
        self._file: TraceFile | None = None
        self._entries: list[Span] = []
        self._changed: dict[int, Span] = {}
        self._is_over = False
        self.head = Head(
            id=f"{started:%Y%m%dT%H%M%S.%f}-{uuid4().hex[:8]}",
            host=host,
            started=started.isoformat(),
            requester=requester,
        )

    @property
    def now(self) -> float:
        """Seconds since the trace began, to the microsecond."""
        return self.since(trio.current_time())

    def since(self, moment: float) -> float:
        """Return a moment of trio's clock in seconds of this trace."""
        return round(moment - self._began, 6)

    def keep(self, kind: str, set_id: SnapshotSetId | None, context: int | None = None) -> None:
        """Make this the trace of something, if it is of nothing yet: from now on it has a file."""
        if self.head.kind or self._is_over:
            return
        self.head.kind = kind
        self.head.set_id = "" if set_id is None else str(set_id)
        if context is not None:
            self.head.context = code_text(context)
            self.head.context_name = _context_name(context)
            self.head.attributes = [bit.name for bit in Attribute if context & bit and bit.name]
        self._file = self._files.begin(self.head.id)
        self.save()

    def add(self, entry: Span) -> int | None:
        """Take an entry and return its number, None when there is no room."""
        if len(self._entries) >= MAX_ENTRIES or self._is_over:
            self.head.left_out += 1
            return None
        number = len(self._entries)
        self._entries.append(entry)
        self._changed[number] = entry
        return number

    def changed(self, number: int | None) -> None:
        """Have an entry written (again) at the next `save`."""
        if number is not None:
            self._changed[number] = self._entries[number]

    def save(self) -> None:
        """Write what is new, unless writes are held somewhere on this host."""
        if self._file is None or self._log.is_quiet:
            return
        entries, self._changed = self._changed, {}
        self._file.append(self.head, {n: (_LIST_OF[type(e)], e) for n, e in entries.items()})

    def decide(self, request: Request) -> None:
        """Take the outcome of the requester's call that decides the trace's."""
        if request.method in DECIDING.get(self.head.kind, ()):
            self.head.outcome, self.head.code = request.outcome, request.code
            self.head.text = request.text

    def finish(self, why: str) -> None:
        """End the trace, for good. why: see `Head.ended_by`."""
        if self.head.outcome == RUNNING:
            failed = [e for e in self._entries if isinstance(e, Request) and e.is_failure]
            last = failed[-1] if failed else Request(method="", outcome=ABANDONED)
            self.head.outcome, self.head.code, self.head.text = last.outcome, last.code, last.text
        self.head.ended_by, self.head.seconds = why, self.now
        self.save()
        self._is_over = True
        if self._file is not None:
            self._file.finish()

    def record(self) -> Record:
        """Return the trace as far as it is known."""
        head = {each.name: getattr(self.head, each.name) for each in fields(Head)}
        whole = Record(**head)
        for entry in sorted(self._entries, key=lambda each: each.start):
            getattr(whole, _LIST_OF[type(entry)]).append(entry)
        return whole


def requester_of(pid: int, uid: int) -> Requester:
    """Return who asks; a process that is gone or outside this host has no program."""
    program = processes.command_of(pid) if pid else None
    return Requester(pid=pid, uid=uid, program=None if program is None else short(program))


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Have everything that the block does, in child tasks too, noted by a recorder."""
    token = _current.set(recorder)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Recorder | None:
    """Return the recorder of the requester for whom this task works, if there is one."""
    return _current.get()


@contextmanager
def noted(entry: E) -> Iterator[E]:
    """Note the block as a span; what it raises passes through and is the outcome.

    The block may fill the entry in, its outcome too (`Span.fail`).
    """
    recorder = _current.get()
    if recorder is None:
        yield entry
        return
    entry.start = recorder.now
    number = recorder.add(entry)
    is_mark = isinstance(entry, Request | Phase)
    if is_mark:
        recorder.save()
    try:
        yield entry
    except BaseException as error:
        _note_failure(entry, error)
        raise
    else:
        if entry.outcome == RUNNING:
            entry.outcome, entry.code = OK, entry.code or code_text(Hresult.S_OK)
    finally:
        entry.seconds = round(recorder.now - entry.start, 6)
        recorder.changed(number)
        if isinstance(entry, Request):
            recorder.decide(entry)
        if is_mark:
            recorder.save()


def _note_failure(entry: Span, error: BaseException) -> None:
    if entry.outcome not in (RUNNING, OK):
        return
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, VssError):
            entry.fail(leaf.hresult, leaf.fact)
            return
    if all(isinstance(leaf, trio.Cancelled) for leaf in leaves):
        entry.outcome = CANCELLED
    else:
        other = next(leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled))
        entry.fail(Hresult.E_UNEXPECTED, f"{type(other).__name__}: {other}")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def keep(kind: str, set_id: SnapshotSetId | None, context: int | None = None) -> None:
    """Make the trace of this task's requester one of a kind, see `Recorder.keep`."""
    if (recorder := _current.get()) is not None:
        recorder.keep(kind, set_id, context)


def note_volume(volume: Volume, snapshot_id: SnapshotId, provider: str) -> None:
    """Note a volume that came into the set."""
    if (recorder := _current.get()) is not None:
        recorder.head.volumes.append(
            TracedVolume(
                name=volume.name,
                at=[*volume.letters, *volume.mount_points],
                filesystem=volume.filesystem,
                size=volume.size,
                luns=[extents.lun_id for extents in volume.luns],
                snapshot_id=str(snapshot_id),
                provider=provider,
            )
        )


def note_copies(snapshots: Iterable[SnapshotDescription]) -> None:
    """Note the copies of a set that comes from elsewhere; luns are those on which they lie."""
    if (recorder := _current.get()) is not None:
        recorder.head.volumes += [
            TracedVolume(
                name=each.properties.original_volume_name,
                at=[],
                filesystem=None,
                size=sum(e.length for lun in each.luns for e in lun.extents),
                luns=[lun.destination.describe() for lun in each.luns],
                snapshot_id=str(each.properties.snapshot_id),
                provider=braced(each.properties.provider_id),
            )
            for each in snapshots
        ]


@asynccontextmanager
async def noted_hold(hold: AbstractAsyncContextManager[Held], limit: float) -> AsyncIterator[Held]:
    """Hold writes during the block as `hold` does, and note the window when it is over.

    It is noted unless no volume came to be frozen. limit: seconds.
    """
    held: Held | None = None
    window = Hold(limit=limit)
    try:
        async with hold as held:
            yield held
        window.outcome, window.code = OK, code_text(Hresult.S_OK)
    except BaseException as error:
        _note_failure(window, error)
        raise
    finally:
        if held is not None:
            _note_window(window, held)


def _note_window(window: Hold, held: Held) -> None:
    recorder = _current.get()
    if recorder is None or held.began is None:
        return
    window.start, window.seconds = recorder.since(held.began), round(held.seconds, 6)
    window.volumes = [
        VolumeHold(
            volume=each.volume,
            frozen=None if each.frozen is None else recorder.since(each.frozen),
            thawed=None if each.thawed is None else recorder.since(each.thawed),
        )
        for each in held.windows
    ]
    recorder.add(window)


def note_over(entry: Span, *, begun: float) -> None:
    """Note something that is over by now and began at a moment of trio's clock."""
    if (recorder := _current.get()) is not None:
        entry.start = recorder.since(begun)
        entry.seconds = round(recorder.now - entry.start, 6)
        recorder.add(entry)


def _context_name(mask: int) -> str:
    try:
        return context_of(mask).name
    except InvalidArgument:
        return code_text(mask)
