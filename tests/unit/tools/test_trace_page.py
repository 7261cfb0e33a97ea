"""`vssemu trace`: the page, the text, the JSON, and time on paper."""

import json
import re
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from lxml import html

from vssemu.service.record import (
    EventSent,
    Hold,
    Phase,
    ProviderCall,
    Record,
    Request,
    Requester,
    TracedVolume,
    VolumeHold,
)
from vssemu.service.recording import _LIST_OF
from vssemu.service.tracefiles import TraceFiles
from vssemu.tools.main import main
from vssemu.tools.timescale import LEFT, RIGHT, WIDTH, Scale, duration, scale_of
from vssemu.tools.trace_page import render
from vssemu.vss.hresult import Hresult

EVIL = '</title><script>alert("x")</script> & \x00\x1b[31m'
SET = "aaaaaaaa-0000-4000-8000-000000000001"


def request(method: str, start: float, seconds: float | None, **facts: Any) -> Request:
    outcome = "running" if seconds is None else "ok"
    return Request(method=method, start=start, seconds=seconds, outcome=outcome, **facts)


def phase(name: str, row: int, start: float, seconds: float) -> Phase:
    return Phase(
        sequence="creation", name=name, row=row, start=start, seconds=seconds, outcome="ok"
    )


def event(
    kind: str, start: float, seconds: float, writer: str = EVIL, instance: str = "1"
) -> EventSent:
    return EventSent(
        writer=writer,
        writer_id="w",
        instance_id=f"{instance}bcdef01-rest",
        level="FRONT_END",
        event=kind,
        limit=60.0,
        start=start,
        seconds=seconds,
        outcome="ok",
        code="0x00000000",
    )


def call(method: str, start: float, seconds: float, **facts: Any) -> ProviderCall:
    usual = {
        "provider": f"array {EVIL}",
        "provider_id": "p",
        "arguments": f"luns=1: naa.6{method.lower()}",
        "returned": "S_OK (0x00000000)",
        "outcome": "ok",
    }
    return ProviderCall(method=method, start=start, seconds=seconds, **usual | facts)


def sample(**facts: Any) -> Record:
    """A creation: frozen from 1.0 to 1.5 s, held from 1.20 to 1.25 s; complete at 60 s."""
    usual: dict[str, Any] = {
        "id": "20261122T120000-00000001",
        "host": "systemOne",
        "started": "2026-11-22T12:00:00+00:00",
        "requester": Requester(pid=12, uid=0, program=f"backup {EVIL}"),
        "kind": "creation",
        "set_id": SET,
        "context_name": "BACKUP",
        "attributes": ["TRANSPORTABLE"],
        "outcome": "ok",
        "seconds": 61.0,
        "ended_by": "release",
        "volumes": [
            TracedVolume(
                name="V",
                at=["F:\\"],
                filesystem="ext4",
                size=1 << 26,
                luns=["naa.61"],
                snapshot_id="s",
                provider="array",
            )
        ],
        "requests": [
            request("InitializeForBackup", 0.0, 0.001),
            request("AddToSnapshotSet", 0.1, 0.1, arguments="F:\\"),
            request("AddToSnapshotSet", 0.2, 0.1, arguments="G:\\"),
            request("DoSnapshotSet", 0.5, 1.5),
            request("BackupComplete", 60.0, 0.5),
        ],
        "phases": [
            phase("freeze_front_end", 10, 0.999, 0.1),
            phase("pre_commit_snapshots", 11, 1.1, 0.08),
            phase("hold", 12, 1.18, 0.03),
            phase("commit_snapshots", 13, 1.21, 0.03),
            phase("thaw", 17, 1.4, 0.1),
        ],
        "events": [event("Freeze", 1.0, 0.09), event("Thaw", 1.4, 0.1)],
        "calls": [
            call("AreLunsSupported", 0.11, 0.01),
            call("PreCommitSnapshots", 1.1, 0.07),
            call("CommitSnapshots", 1.21, 0.02),
        ],
        "holds": [
            Hold(
                start=1.2,
                seconds=0.05,
                outcome="ok",
                limit=10.0,
                volumes=[VolumeHold(volume="V", frozen=1.205, thawed=1.25)],
            )
        ],
    }
    return Record(**usual | facts)


def failed() -> Record:
    """A veto in PreCommitSnapshots; nothing was held."""
    late = replace(event("Freeze", 1.0, 0.9, writer="slow", instance="2"), late=True)
    late.fail(Hresult.VSS_E_WRITERERROR_TIMEOUT, "did not answer within 0.9 s")
    veto = call("PreCommitSnapshots", 1.9, 0.01, returned="VSS_E_PROVIDER_VETO (0x80042306)")
    veto.fail(Hresult.VSS_E_PROVIDER_VETO, f"out of step {EVIL}")
    return sample(
        outcome="VSS_E_PROVIDER_VETO",
        code="0x80042306",
        text=veto.text,
        holds=[],
        events=[event("Freeze", 1.0, 0.1), late, event("Abort", 1.95, 0.01)],
        calls=[veto],
    )


def parsed(record: Record) -> Any:
    return html.document_fromstring(render(record))


def rows_of(element: Any) -> list[str]:
    """Return the rows of all tables, cells set apart by a blank."""
    rows = element.xpath(".//tbody/tr")
    return [" ".join(text_of(cell) for cell in row.xpath("td")) for row in rows]


def text_of(element: Any) -> str:
    return " ".join(element.text_content().split())


@pytest.mark.parametrize("record", [sample(), failed()], ids=["done", "failed"])
def test_the_page_is_whole_alone_and_holds_foreign_text_as_text(record: Record) -> None:
    page = render(record)
    tree = html.document_fromstring(page)
    assert tree.xpath("//script | //link | //img | //iframe | //@src | //@href") == []
    assert not re.search(r"https?://|url\(|@import", page)
    assert "<script" not in page
    assert "\x00" not in page
    assert "\x1b" not in page
    shown = text_of(tree.find("body"))
    assert '</title><script>alert("x")</script> & \ufffd\ufffd[31m' in shown
    assert "prefers-color-scheme: dark" in page


def test_every_call_event_phase_and_request_is_in_a_table_with_its_time() -> None:
    record = sample()
    rows = rows_of(parsed(record))
    for one in record.calls:
        (row,) = [row for row in rows if one.method in row and one.arguments in row]
        assert duration(one.seconds) in row
        assert "S_OK (0x00000000)" in row
    for each in record.phases:
        wanted = (f"{each.row} {each.start:.4f} s", each.name.replace("_", " "))
        assert [row for row in rows if row.startswith(wanted[0]) and wanted[1] in row]
    for asked in record.requests:
        assert [
            row for row in rows if row.startswith(f"{asked.start:.4f} s") and asked.method in row
        ]
    (writer,) = [row for row in rows if row.startswith("</title>")]
    assert "90 ms" in writer
    assert "100 ms" in writer


def bars(svg: Any, kind: str) -> list[tuple[float, float]]:
    found = svg.xpath(f".//rect[contains(@class, 'bar {kind}')]")
    return [(float(r.get("x")), float(r.get("x")) + float(r.get("width"))) for r in found]


def band(svg: Any, kind: str) -> tuple[float, float]:
    (found,) = svg.xpath(f".//rect[@class='band {kind}']")
    return float(found.get("x")), float(found.get("x")) + float(found.get("width"))


def test_the_hold_is_a_band_within_the_freeze_and_the_commit_is_in_it() -> None:
    whole, frozen, held = parsed(sample()).xpath("//svg")
    for svg in (whole, frozen):
        freeze, hold = band(svg, "freeze"), band(svg, "hold")
        assert freeze[0] < hold[0] < hold[1] < freeze[1]
        commit = bars(svg, "call")[-1]
        assert hold[0] <= commit[0] <= commit[1] <= hold[1]
    assert band(held, "hold")[1] - band(held, "hold")[0] > 500, "50 ms of 500 can be read"
    assert {text_of(each) for each in held.xpath(".//text")} >= {"freezing \u00b7 5 ms"}
    assert len(bars(whole, "requester")) == 5
    assert len(bars(frozen, "requester")) == 0


def test_a_long_time_between_calls_is_cut_out_and_says_so() -> None:
    whole = parsed(sample()).xpath("//svg")[0]
    cuts = [text_of(each) for each in whole.xpath(".//g[@class='cut']/text")]
    assert cuts == ["200 ms", "58.00 s"]
    first, last = bars(whole, "requester")[3], bars(whole, "requester")[4]
    assert last[0] - first[1] < 100


def test_labels_are_readable_without_pointing_and_hide_nothing() -> None:
    many = [request("AddToSnapshotSet", n / 100, 0.009) for n in range(16)]
    many += [request(f"Call{n}", 0.2 + n / 1000, 0.0005) for n in range(12)]
    whole = parsed(sample(requests=many)).xpath("//svg")[0]
    labels = whole.xpath(".//text[contains(@class, 'label') and not(contains(@class, 'band'))]")
    texts = [text_of(label) for label in labels]
    assert any(text.startswith("AddToSnapshotSet \u00d716 \u00b7") for text in texts)
    assert [text for text in texts if text.startswith("Call11 ")]
    lane = [label for label in labels if text_of(label).startswith("Call")]
    spans: dict[str, list[tuple[float, float]]] = {}
    for label in lane:
        x, long = float(label.get("x")), len(text_of(label)) * 5.9
        span = (x - long, x) if "left" in label.get("class") else (x, x + long)
        spans.setdefault(label.get("y"), []).append(span)
    for row in spans.values():
        row.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(row))


def test_what_failed_is_told_first_with_its_meaning_and_drawn_red() -> None:
    tree = parsed(failed())
    told = [text_of(each) for each in tree.xpath("//section[@class='failures']/p")]
    assert told[0].startswith("Freeze of slow, 900 ms: VSS_E_WRITERERROR_TIMEOUT (0x800423f2)")
    assert "VSS_E_PROVIDER_VETO (0x80042306): The provider refuses" in told[1]
    assert "out of step" in told[1]
    assert text_of(tree.find(".//h1")).endswith("VSS_E_PROVIDER_VETO")
    for svg in tree.xpath("//svg"):
        assert svg.xpath(".//rect[contains(@class, 'bar call') and contains(@class, 'bad')]")
        labels = [text_of(each) for each in svg.xpath(".//text[contains(@class, 'bad')]")]
        assert any("PreCommitSnapshots: VSS_E_PROVIDER_VETO" in label for label in labels)
    (late,) = [text_of(c) for c in tree.xpath("//td/span[@class='bad']") if "late" in text_of(c)]
    assert late == "\u2715 900 ms late, 60 s allowed: VSS_E_WRITERERROR_TIMEOUT"


def test_figures_and_shares_say_where_the_freeze_went() -> None:
    tree = parsed(sample())
    figures = [text_of(each) for each in tree.xpath("//div[@class='figure']")]
    assert "Writes held50 ms1 volume; 10 s are allowed" in figures
    assert "Applications frozen500 msFreeze to Thaw; 60 s are allowed" in figures
    assert any(each.startswith("Longest while frozen100 ms20%:") for each in figures)
    (below,) = tree.xpath("//h3[.='Where that time went']/following-sibling::div")
    rows = rows_of(below)
    assert [row.split()[0] for row in rows] == ["10", "11", "12", "13", "17"]
    assert "16%" in rows[1]
    assert "PreCommitSnapshots" in rows[1]


def test_a_trace_without_writers_or_that_ended_early_is_drawn_all_the_same() -> None:
    plain = parsed(sample(events=[]))
    assert "Around the hold, enlarged" in text_of(plain)
    dead = sample(
        outcome="interrupted",
        ended_by="service died",
        seconds=1.3,
        holds=[],
        events=[],
        calls=[],
        requests=[request("DoSnapshotSet", 0.5, None)],
        phases=[],
        volumes=[],
    )
    tree = parsed(dead)
    (svg,) = tree.xpath("//svg")
    assert bars(svg, "requester")[0][1] == pytest.approx(WIDTH - RIGHT)
    assert "the service died before the end" in text_of(tree)
    empty = parsed(replace(dead, requests=[]))
    assert len(empty.xpath("//svg")) == 1


def test_many_volumes_share_a_lane_and_twins_among_writers_have_their_instance() -> None:
    windows = [VolumeHold(volume=f"V{n}", frozen=1.205, thawed=1.25) for n in range(64)]
    hold = Hold(start=1.2, seconds=0.05, outcome="ok", limit=10.0, volumes=windows)
    twins = [event("Freeze", 1.0, 0.1, writer="SQLite", instance=i) for i in "12"]
    tree = parsed(sample(holds=[hold], events=twins))
    frozen = tree.xpath("//svg")[1]
    assert len(bars(frozen, "volume")) == 64
    assert "64 volumes" in text_of(frozen)
    assert {"SQLite 1bcdef01", "SQLite 2bcdef01"} <= {
        text_of(cell) for cell in tree.xpath("//td[1]")
    }


# -- time on paper ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00001, "<0.1 ms"),
        (0.00042, "0.42 ms"),
        (0.0042, "4.2 ms"),
        (0.00999, "10 ms"),
        (0.0996, "100 ms"),
        (0.9996, "1.00 s"),
        (12.345, "12.35 s"),
        (59.999, "1 min 0 s"),
        (185.4, "3 min 5 s"),
        (None, "not ended"),
    ],
)
def test_times_are_written_as_people_read_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_scale_keeps_order_and_cuts_only_long_idle_times() -> None:
    scale = scale_of([(0.0, 1.0), (0.5, 1.2), (1.25, 2.0), (30.0, 31.0)])
    assert scale.spans == [(0.0, 2.0), (30.0, 31.0)]
    moments = [0.0, 0.7, 1.22, 2.0, 15.0, 30.0, 31.0, 99.0]
    places = [scale.x(moment) for moment in moments]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (LEFT, WIDTH - RIGHT)
    assert all(any(b <= t <= e for b, e in scale.spans) for t in scale.ticks())
    assert Scale(spans=[(1.0, 1.1)], zero=1.02).ticks()[0] == pytest.approx(1.0)


# -- the command --------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A host's state with two creations and an import, the newest."""
    files = TraceFiles(tmp_path)
    older = failed()
    older.id, older.set_id = "20261122T110000-00000000", SET.replace("1", "2")
    newest = sample(id="20261122T130000-00000002", kind="import", set_id=SET.replace("1", "3"))
    for record in (older, sample(), newest):
        file = files.begin(record.id)
        lists = (record.requests, record.phases, record.events, record.calls, record.holds)
        entries = [each for one in lists for each in one]
        file.append(record, {n: (_LIST_OF[type(e)], e) for n, e in enumerate(entries)})
        file.finish()
    return tmp_path


def run(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["trace", "--state", str(state), *arguments])


def test_the_last_creation_is_printed_in_order_with_the_hold_marked(state: Path) -> None:
    result = run(state)
    assert result.exit_code == 0, result.output
    assert "Creation of a shadow copy set on systemOne: done" in result.output
    lines = result.output.splitlines()
    order = ["AddToSnapshotSet", "DoSnapshotSet", "PreCommitSnapshots", "CommitSnapshots"]
    numbers = [next(n for n, line in enumerate(lines) if f" {name}" in line) for name in order]
    assert numbers == sorted(numbers)
    assert "writes held" in result.output
    assert "\x1b" not in result.output


def test_json_has_everything_under_the_names_that_are_promised(state: Path) -> None:
    found = json.loads(run(state, "--json").stdout)
    assert found["schema"] == "vssemu.trace/1"
    assert (found["set_id"], found["kind"], found["outcome"]) == (SET, "creation", "ok")
    assert [one["method"] for one in found["calls"]] == [one.method for one in sample().calls]
    assert found["holds"][0]["volumes"] == [{"volume": "V", "frozen": 1.205, "thawed": 1.25}]
    documented = sys.modules["vssemu.tools.trace"].__doc__ or ""
    for name in (*found, *found["requests"][0], *found["phases"][0], *found["events"][0]):
        assert re.search(rf"\b{name}\b", documented), name
    for name in (*found["calls"][0], *found["holds"][0], *found["volumes"][0]):
        assert re.search(rf"\b{name}\b", documented), name


def test_a_set_or_an_id_chooses_and_the_list_names_them_newest_first(state: Path) -> None:
    by_set = json.loads(run(state, "--set", f"{{{SET.replace('1', '2')}}}", "--json").stdout)
    assert by_set["outcome"] == "VSS_E_PROVIDER_VETO"
    by_id = json.loads(run(state, "20261122T130000-00000002", "--json").stdout)
    assert by_id["kind"] == "import"
    listed = json.loads(run(state, "--list", "--json").stdout)
    assert [one["kind"] for one in listed] == ["import", "creation", "creation"]
    assert "calls" not in listed[0]
    text = run(state, "--list").stdout
    assert text.splitlines()[2].split()[:5] == [
        "20261122T120000-00000001",
        "2026-11-22",
        "12:00:00",
        "creation",
        SET,
    ]


def test_html_is_written_to_a_file(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    result = run(state, "--html", str(target))
    assert result.stdout.strip() == str(target)
    assert target.read_text(encoding="utf-8") == render(sample())


def test_without_a_trace_one_line_says_where_to_look(state: Path, tmp_path: Path) -> None:
    for result in (
        run(tmp_path / "none"),
        run(state, "--set", SET.replace("1", "9")),
        run(state, "no-such-id"),
    ):
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("VSS_E_OBJECT_NOT_FOUND (0x80042308): there is no trace ")
    assert run(state, "--html", "x", "--json").exit_code == 2
