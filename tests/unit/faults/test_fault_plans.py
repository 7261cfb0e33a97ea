"""What a fault may be, and how it is counted."""

from typing import Any

import pytest

from vssemu.faults import POINTS, Fault
from vssemu.faults.names import check
from vssemu.vss.errors import InvalidArgument, ObjectNotFound
from vssemu.vss.hresult import Hresult


@pytest.mark.parametrize(
    "wrong",
    [
        ("provider", "commit_snapshots", "explode"),
        ("provider", "commit_snapshots", "code"),
        ("provider", "commit_snapshots", "code", "VSS_E_NO_SUCH_CODE"),
        ("provider", "commit_snapshots", "code", "S_OK"),
        ("writer", "freeze", "code", "VSS_E_PROVIDER_VETO"),
        ("provider", "commit_snapshots", "delay"),
        ("provider", "commit_snapshots", "delay", "3"),
        ("provider", "commit_snapshots", "delay", True),
        ("provider", "commit_snapshots", "delay", -1.0),
        ("provider", "commit_snapshots", "delay", float("nan")),
        ("provider", "commit_snapshots", "raise", 3),
        ("provider", "commit_snapshots", "crash", "hard"),
        ("provider", "../../etc/passwd", "crash"),
        ("pro/vider", "commit_snapshots", "crash"),
        ("provider", "commit_snapshots", "crash", None, -1),
        ("provider", "commit_snapshots", "crash", None, 1, -1),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Fault(*wrong)
    assert wrong[1] in str(refused.value)
    assert refused.value.hint


def test_the_code_is_an_hresult() -> None:
    fault = Fault("provider", "commit_snapshots", "code", "VSS_E_PROVIDER_VETO")
    assert fault.hresult is Hresult.VSS_E_PROVIDER_VETO


def _passages(fault: Fault, count: int) -> str:
    """Return a letter a passage: F where the fault happens, - where not; then what is left."""
    seen = ""
    left: Fault | None = fault
    for _ in range(count):
        if left is None:
            seen += "."
            continue
        happens, left = left.passed()
        seen += "F" if happens else "-"
    return seen


@pytest.mark.parametrize(
    ("times", "skip", "expected"),
    [
        (1, 0, "F....."),
        (2, 0, "FF...."),
        (1, 2, "--F..."),
        (3, 1, "-FFF.."),
        (0, 0, "FFFFFF"),
        (0, 2, "--FFFF"),
    ],
)
def test_times_and_skip_are_counted(times: int, skip: int, expected: str) -> None:
    fault = Fault("writer", "freeze", "crash", times=times, skip=skip)
    assert _passages(fault, 6) == expected


@pytest.mark.parametrize(
    ("where", "name", "near"),
    [
        ("provider", "commit_snapshot", "commit_snapshots"),
        ("provider", "on_lun_emty.after", "on_lun_empty.after"),
        ("writer", "freze", "freeze"),
        ("writer:db", "twah", "thaw"),
        ("wirter", None, "writer"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_near_one(
    where: str, name: str | None, near: str
) -> None:
    with pytest.raises(ObjectNotFound) as refused:
        check(where, name)
    assert near in (refused.value.hint or "")


def test_every_listed_point_can_be_named() -> None:
    for where, points in POINTS.items():
        for name, text in points.items():
            assert text
            check(where, name)
            Fault(where, name, "crash")
