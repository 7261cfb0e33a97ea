"""What a trace says: plain facts, as its file has them and as `vssemu trace --json` prints them.

A trace is the life of one requester object (IVssBackupComponents), from InitializeForBackup to
its release. All times are seconds; `start` counts from the trace's beginning on a clock that
nobody sets. `outcome` is `ok`, the name of an HRESULT, `running` while (and for ever, when the
service died meanwhile) the end is not known, or `cancelled`. `code` is an HRESULT as `0x` and
8 digits. Texts are cut off at `TEXT` characters.
Names and shapes are a contract with users: fields are added, never renamed.
"""

from dataclasses import dataclass, field
from typing import Final

from vssemu.vss.hresult import Hresult

SCHEMA: Final = "vssemu.trace/1"

TEXT: Final = 400
"""Characters of an argument, a result or a message that are kept."""

OK: Final = "ok"
RUNNING: Final = "running"
CANCELLED: Final = "cancelled"
INTERRUPTED: Final = "interrupted"
"""The service died before the end."""
ABANDONED: Final = "abandoned"
"""The requester left before the call that decides."""


@dataclass(kw_only=True, slots=True)
class Span:
    """Something that took time. seconds: None while it runs. text: why it failed."""

    start: float = 0.0
    seconds: float | None = None
    outcome: str = RUNNING
    code: str | None = None
    text: str = ""

    @property
    def end(self) -> float:
        """When it ended; its start while it runs."""
        return self.start + (self.seconds or 0.0)

    @property
    def is_failure(self) -> bool:
        """Whether it ended badly."""
        return self.outcome not in (OK, RUNNING)

    def fail(self, hresult: Hresult, text: str) -> None:
        """Note how it failed."""
        self.outcome, self.code, self.text = hresult.name, code_text(hresult), short(text)


@dataclass(kw_only=True, slots=True)
class Request(Span):
    """A call of the requester, by its Windows name; an asynchronous one until its end."""

    method: str
    arguments: str = ""


@dataclass(kw_only=True, slots=True)
class Phase(Span):
    """A row of one of the service's sequences (`vss.steps`). row: its number there."""

    sequence: str
    name: str
    row: int
    detail: str | None = None


@dataclass(kw_only=True, slots=True)
class EventSent(Span):
    """An event to a writer and its answer. limit: seconds it had; late: they passed.

    event: of VSS, without On; `FreezeToThaw` stands for a writer's time between the two that
    passed. level: name of VSS_APPLICATION_LEVEL. is_veto: the failure ended the writer's part.
    """

    writer: str
    writer_id: str
    instance_id: str
    level: str
    event: str
    limit: float
    late: bool = False
    is_veto: bool = False


@dataclass(kw_only=True, slots=True)
class ProviderCall(Span):
    """A call of a provider. outcome: what VSS made of it.

    returned: the HRESULT that the provider gave, named, None when it gave none. result: what it
    gave beside, in short.
    """

    provider: str
    provider_id: str
    method: str
    arguments: str = ""
    returned: str | None = None
    result: str = ""


@dataclass(kw_only=True, slots=True)
class VolumeHold:
    """When one volume was frozen and thawed, in seconds from the trace's beginning.

    None: never, or not by the service, or not known.
    """

    volume: str
    frozen: float | None
    thawed: float | None


@dataclass(kw_only=True, slots=True)
class Hold(Span):
    """The hold window: from the freeze of the first volume to the thaw of the last.

    limit: seconds after which it would have been ended.
    """

    limit: float
    volumes: list[VolumeHold] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class TracedVolume:
    """A volume of the set. at: where it is mounted; luns: their NAA ids; size: bytes.

    Of an import: the original volume, by name and size alone, and the LUNs of the copy.
    """

    name: str
    at: list[str]
    filesystem: str | None
    size: int
    luns: list[str]
    snapshot_id: str
    provider: str


@dataclass(kw_only=True, slots=True)
class Requester:
    """Who asked. pid: 0 for one outside the host; program: its command line, if known."""

    pid: int
    uid: int
    program: str | None = None


@dataclass(kw_only=True, slots=True)
class Head:
    """What a trace is of.

    kind: `creation`, `import`, `deletion` or `break`, of what came first. outcome, code, text:
    of DoSnapshotSet, ImportSnapshots, ...; `interrupted` when the service died in it,
    `abandoned` when the requester left before. started: UTC, ISO 8601. seconds: until the last
    thing that is known. ended_by: `release`, `requester gone`, `service stop`, `service died`,
    None while the object lives. attributes: names of VSS_VOLUME_SNAPSHOT_ATTRIBUTES.
    left_out: how many entries found no room.
    """

    schema: str = SCHEMA
    id: str
    host: str
    started: str
    requester: Requester
    kind: str = ""
    set_id: str = ""
    context: str = ""
    context_name: str = ""
    attributes: list[str] = field(default_factory=list)
    outcome: str = RUNNING
    code: str | None = None
    text: str = ""
    seconds: float = 0.0
    ended_by: str | None = None
    volumes: list[TracedVolume] = field(default_factory=list)
    left_out: int = 0


@dataclass(kw_only=True, slots=True)
class Record(Head):
    """A whole trace; each list is in the order of the starts."""

    requests: list[Request] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    events: list[EventSent] = field(default_factory=list)
    calls: list[ProviderCall] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)

    @property
    def freeze(self) -> tuple[float, float] | None:
        """When applications stood still: the first Freeze to the end of the last Thaw (or Abort).

        None when no writer was frozen.
        """
        begin = min((e.start for e in self.events if e.event == "Freeze"), default=None)
        if begin is None:
            return None
        for ending in ("Thaw", "Abort", "Freeze"):
            ends = [e.end for e in self.events if e.event == ending and e.start >= begin]
            if ends:
                return begin, max(ends)
        return None

    @property
    def hold(self) -> Hold | None:
        """The hold window of the creation, None when writes were never held."""
        return self.holds[-1] if self.holds else None


LISTS: Final[dict[str, type[Span]]] = {
    "requests": Request,
    "phases": Phase,
    "events": EventSent,
    "calls": ProviderCall,
    "holds": Hold,
}
"""Field of `Record` -> what is in it."""


def short(text: str) -> str:
    """Return a text on one line that is not longer than `TEXT`."""
    line = " ".join(text.split())
    return line if len(line) <= TEXT else f"{line[: TEXT - 1]}…"


def code_text(hresult: int) -> str:
    """Return an HRESULT as `0x` and 8 digits."""
    return f"0x{hresult & 0xFFFF_FFFF:08x}"
