"""What has to come of a fault at each call of a provider and at each event of a writer.

Source: error-handling-in-shadow-copy-providers (codes); overview of processing a backup, and
"Abort" there: writers hear it of a failure after PrepareForSnapshot, not of an earlier one.
"""

from dataclasses import dataclass, replace

from tests.rig.lab.faultrig import (
    CRASH,
    DELAY,
    FAULTY_ID,
    RAISE,
    RETRYABLE,
    UNDOCUMENTED,
    VETO,
    Attempt,
    What,
    assert_all_is_well,
    attempt,
    faults_of,
)
from tests.rig.lab.labrig import TRANSPORTABLE, Rig
from tests.rig.lab.witness import Witness
from vssemu import Context, Hresult
from vssemu.writers import faulty

__all__ = ["FAULTY_ID", "PROVIDER_WALK", "WRITER_WALK", "ProviderCase", "WriterCase", "walk"]

LOCAL = Context.BACKUP

_BEFORE_PREPARE_SNAPSHOT = {
    "are_luns_supported",
    "begin_prepare_snapshot",
    "end_prepare_snapshots",
}
_BEFORE_THAW = {"pre_commit_snapshots", "commit_snapshots", "post_commit_snapshots"}
_AFTER_THAW = {
    "get_target_luns",
    "pre_final_commit_snapshots",
    "post_final_commit_snapshots",
}
_OF_A_LOCAL_SET = {"locate_luns", "fill_in_lun_info"}


@dataclass(frozen=True)
class ProviderCase:
    """A fault in a call of the provider, during a creation."""

    point: str
    what: What
    context: int

    @property
    def id(self) -> str:
        """The case in a name of a test."""
        kind = "transportable" if self.context == TRANSPORTABLE else "local"
        return f"{kind}-{self.point}-{self.what.id}"

    @property
    def call(self) -> str:
        """The call that the point belongs to."""
        return self.point.removesuffix(".after")

    @property
    def code(self) -> Hresult:
        """What the requester has to get."""
        if self.what is DELAY or self.call == "fill_in_lun_info":
            return Hresult.S_OK  # FillInLunInfo's return code is ignored
        if self.what is VETO:
            return Hresult.VSS_E_PROVIDER_VETO
        return Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR

    @property
    def ends(self) -> list[str]:
        """What the well-behaved writer has to see of Thaw and Abort."""
        if self.code is Hresult.S_OK:
            return ["thaw"]
        if self.call in _BEFORE_PREPARE_SNAPSHOT:
            return []
        return ["abort"] if self.call in _BEFORE_THAW else ["thaw", "abort"]


@dataclass(frozen=True)
class WriterCase:
    """A fault in an event of a writer, during a transportable backup to its end."""

    point: str
    what: What

    @property
    def id(self) -> str:
        """The case in a name of a test."""
        return f"{self.point}-{self.what.id}"

    @property
    def event(self) -> str:
        """The event that the point belongs to."""
        return self.point.removesuffix(".after")

    @property
    def failure(self) -> Hresult | None:
        """What the writer's status has to show, None without a failure."""
        if self.what is DELAY or self.event in {"identify", "backup_shutdown"}:
            return None
        if self.what is RETRYABLE:
            return Hresult.VSS_E_WRITERERROR_RETRYABLE
        if self.what is RAISE:
            return Hresult.VSS_E_WRITERERROR_NONRETRYABLE
        return Hresult.VSS_E_WRITER_NOT_RESPONDING


PROVIDER_WALK = tuple(
    ProviderCase(f"{call}{suffix}", what, context)
    for context in (TRANSPORTABLE, LOCAL)
    for call in (
        "are_luns_supported",
        "begin_prepare_snapshot",
        "end_prepare_snapshots",
        "pre_commit_snapshots",
        "commit_snapshots",
        "post_commit_snapshots",
        "get_target_luns",
        "locate_luns",
        "fill_in_lun_info",
        "pre_final_commit_snapshots",
        "post_final_commit_snapshots",
    )
    for suffix in ("", ".after")
    for what in (VETO, UNDOCUMENTED, RAISE, CRASH, DELAY)
    if context == LOCAL or call not in _OF_A_LOCAL_SET
)

WRITER_WALK = tuple(
    WriterCase(f"{event}{suffix}", what)
    for event in (
        "identify",
        "prepare_backup",
        "prepare_snapshot",
        "freeze",
        "thaw",
        "post_snapshot",
        "backup_complete",
        "backup_shutdown",
    )
    for suffix in ("", ".after")
    for what in (RETRYABLE, RAISE, CRASH, DELAY)
)


def walk(rig: Rig, witness: Witness, case: ProviderCase) -> Attempt:
    """Let a creation run into a fault of the provider; it and the next one have to be well."""
    luns = rig.lun_ids()
    faults_of(rig).arm(case.what.at("provider", case.point))
    made = attempt(rig, witness, context=case.context)
    assert (made.code, made.ends) == (case.code, case.ends), made.fact
    assert made.failures == {}
    # Before EndPrepareSnapshots a provider hears of no abort, but of the next set.
    following = attempt(rig, witness, context=case.context)
    assert replace(following, witnessed=[]) == Attempt(), following.fact
    assert following.ends == ["thaw"]
    assert_all_is_well(rig, luns)
    return made


def walk_writer(rig: Rig, witness: Witness, case: WriterCase) -> Attempt:
    """Let a backup run into a fault of a writer, which is that writer's affair alone."""
    luns = rig.lun_ids()
    faults_of(rig).arm(case.what.at("writer", case.point))
    made = attempt(rig, witness, context=TRANSPORTABLE, complete=True)
    assert made.code is Hresult.S_OK, made.fact
    assert made.ends == ["thaw"]
    expected = {} if case.failure is None else {faulty.NAME: case.failure}
    assert made.failures == expected
    assert_all_is_well(rig, luns)
    return made
