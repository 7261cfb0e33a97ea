"""The names of all points, with a word of what each is: the one table that a name is checked by.

A point that stands in the code stands here too; a test holds the two against each other.
"""

from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from vssemu.vss import steps
from vssemu.vss.errors import ObjectNotFound

_PROVIDER_CALLS: Final = {
    "on_load": "OnLoad, when the service connects to the provider",
    "on_unload": "OnUnload",
    "are_luns_supported": "AreLunsSupported, at AddToSnapshotSet",
    "begin_prepare_snapshot": "BeginPrepareSnapshot, at AddToSnapshotSet",
    "end_prepare_snapshots": "EndPrepareSnapshots, the first call of a creation",
    "pre_commit_snapshots": "PreCommitSnapshots, applications being frozen",
    "commit_snapshots": "CommitSnapshots, writes being held",
    "post_commit_snapshots": "PostCommitSnapshots, writes going on again",
    "pre_final_commit_snapshots": "PreFinalCommitSnapshots, the copies being on the host",
    "post_final_commit_snapshots": "PostFinalCommitSnapshots, the last call of a creation",
    "abort_snapshots": "AbortSnapshots",
    "get_target_luns": "GetTargetLuns, the records of the new LUNs",
    "locate_luns": "LocateLuns, at an import",
    "fill_in_lun_info": "FillInLunInfo, for each LUN that arrives or is emptied",
    "on_lun_empty": "OnLunEmpty, the last copy on a LUN being gone",
    "on_lun_state_change": "OnLunStateChange, at a break",
    "resync_luns": "ResyncLuns",
}

_WRITER_EVENTS: Final = {
    "identify": "Identify, at GatherWriterMetadata",
    "prepare_backup": "PrepareBackup, at PrepareForBackup",
    "prepare_snapshot": "PrepareSnapshot, before the freeze",
    "freeze": "Freeze",
    "thaw": "Thaw",
    "post_snapshot": "PostSnapshot",
    "abort": "Abort",
    "backup_complete": "BackupComplete",
    "backup_shutdown": "BackupShutdown, the requester being gone",
}

_ARRAY_CALLS: Final = {
    "prepare": "a LUN is taken into a set",
    "finish_prepare": "a set is made ready to commit",
    "commit": "the copies are taken, writes being held",
    "settle": "the copies are made durable",
    "abort": "the copies of a set are dropped",
    "copies_of": "the records of the copies are handed out",
    "surface": "copies are unmasked to a host",
    "retract": "LUNs that a host gave up are masked",
    "share": "a LUN is unmasked to another host",
    "set_independent": "copies become plain LUNs, at a break",
    "set_import_failed": "copies of a failed import are noted",
    "reclaim": "a copy is deleted",
    "discard_scratch": "the scratch clone of a copy is removed",
    "create_lun": "the administrator creates a LUN",
    "delete_lun": "the administrator deletes a LUN",
    "extend_lun": "the administrator extends a LUN",
    "mask_lun": "the administrator masks a LUN",
    "unmask_lun": "the administrator unmasks a LUN",
}

_SERVICE: Final = dict(steps.points())


def _before_and_after(calls: dict[str, str]) -> dict[str, str]:
    return {
        name: text
        for call, what in calls.items()
        for name, text in ((call, f"before {what}"), (f"{call}.after", f"after {what}"))
    }


POINTS: Final = MappingProxyType(
    {
        "service": MappingProxyType(_SERVICE),
        "array": MappingProxyType(_before_and_after(_ARRAY_CALLS)),
        "provider": MappingProxyType(_before_and_after(_PROVIDER_CALLS)),
        "writer": MappingProxyType(_before_and_after(_WRITER_EVENTS)),
    }
)
"""where -> name of a point -> what it is."""


_LABELLED: Final = frozenset({"provider", "writer"})


def kind_of(where: str) -> str:
    """Return which processes a place means: `writer` of `writer` and of `writer:LABEL`."""
    return where.partition(":")[0]


def check(where: str, name: str | None = None) -> None:
    """Refuse a place or a point that there is not, naming those that are spelt like it.

    Raises ObjectNotFound.
    """
    kind = kind_of(where)
    if kind not in POINTS or (kind != where and kind not in _LABELLED):
        raise _unknown(f"no process is called {where!r}", where, list(POINTS))
    if name is not None and name not in POINTS[kind]:
        raise _unknown(f"{kind} has no point {name!r}", name, list(POINTS[kind]))


def _unknown(fact: str, given: str, known: list[str]) -> ObjectNotFound:
    near = get_close_matches(given, known, n=3, cutoff=0.4) or known[:4]
    hint = f"near it: {', '.join(near)}; `vssemu fault points` lists all"
    return ObjectNotFound(fact, hint=hint, item=given)
