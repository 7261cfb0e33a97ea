"""The time limits of the service, in seconds, each with its source.

Read from the tables `[limits]`, `[limits.writer]` and `[limits.provider]` of the
configuration; a key or a value that makes no sense is refused by name. "Our choice" stands
where the documents give no number.
"""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from vssemu.vss.errors import InvalidArgument
from vssemu.vss.writer import EventKind

CONFIGURATION = Path("/etc/vssemu/vssemu.toml")


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterLimits:
    """How long a writer may take to answer an event.

    freeze: from Freeze to Thaw (CVssWriter::Initialize), a writer may ask for less. The
    window of PrepareSnapshot is only said to be longer than that; it and the rest are our
    choice.
    """

    identify: float = 30.0
    prepare_backup: float = 180.0
    prepare_snapshot: float = 180.0
    freeze: float = 60.0
    thaw: float = 30.0
    post_snapshot: float = 180.0
    abort: float = 15.0
    backup_complete: float = 180.0
    backup_shutdown: float = 15.0

    def of(self, kind: EventKind) -> float:
        """Return the limit of an event."""
        value: float = getattr(self, kind.name.lower())
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderLimits:
    """How long a provider may take for a call; one that takes longer is killed.

    The documents give words only: BeginPrepare "quickly", EndPrepare may be long, PreCommit
    and PostCommit "a second or two". commit_snapshots stands above the 10 s of the hold, which
    end it first. `other` holds for the calls that have no field. start: from the program's
    start to the end of OnLoad.
    """

    start: float = 30.0
    begin_prepare_snapshot: float = 60.0
    end_prepare_snapshots: float = 900.0
    pre_commit_snapshots: float = 10.0
    commit_snapshots: float = 30.0
    post_commit_snapshots: float = 10.0
    pre_final_commit_snapshots: float = 180.0
    post_final_commit_snapshots: float = 180.0
    on_unload: float = 15.0
    other: float = 60.0

    def of(self, function_name: str) -> float:
        """Return the limit of a method, by its Python name."""
        value: float = getattr(self, function_name, self.other)
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """All limits of the service.

    hold: flush-and-hold, fixed by the documents (REQB). arrival: an import waits for its
    LUNs; a limit is documented, its value is not. clean_up: undoing a creation or an import.
    recovery: per set, when the service starts. stop: ending all sessions at the stop; below the
    15 s after which a supervisor kills, and what is left is done at the next start.
    retry: between two attempts to delete what was in use.
    """

    hold: float = 10.0
    arrival: float = 20.0
    clean_up: float = 120.0
    recovery: float = 60.0
    stop: float = 12.0
    retry: float = 15.0
    writer: WriterLimits = field(default_factory=WriterLimits)
    provider: ProviderLimits = field(default_factory=ProviderLimits)


def load(path: Path) -> Limits:
    """Return the limits of a configuration file, the defaults when there is none.

    Raises InvalidArgument that names file and key; OSError when it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Limits()
    try:
        return from_mapping(tomllib.loads(text).get("limits", {}))
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{path}: not TOML: {error}", item=str(path)) from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.fact}", hint=error.hint, item=error.item) from error


def from_mapping(table: Any) -> Limits:
    """Return the limits that the `limits` table of a configuration gives."""
    if not isinstance(table, dict):
        raise InvalidArgument("limits: it must be a table", item="limits")
    values = dict(table)
    parts = {
        "writer": _part(WriterLimits, "limits.writer", values.pop("writer", {})),
        "provider": _part(ProviderLimits, "limits.provider", values.pop("provider", {})),
    }
    plain = _numbers("limits", values, {f.name for f in fields(Limits)} - set(parts))
    return Limits(**plain, **parts)  # type: ignore[arg-type]  # the names are checked above


P = TypeVar("P", WriterLimits, ProviderLimits)


def _part(cls: type[P], where: str, table: Any) -> P:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{where}: it must be a table", item=where)
    return cls(**_numbers(where, table, {f.name for f in fields(cls)}))


def _numbers(where: str, table: dict[str, Any], known: set[str]) -> dict[str, float]:
    for key, value in table.items():
        if key not in known:
            raise InvalidArgument(
                f"{where}.{key}: no such limit",
                hint=f"known: {', '.join(sorted(known))}",
                item=f"{where}.{key}",
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InvalidArgument(
                f"{where}.{key}: {value!r} is no number of seconds", item=f"{where}.{key}"
            )
    return {key: float(value) for key, value in table.items()}
