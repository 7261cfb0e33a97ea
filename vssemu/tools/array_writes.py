"""`vssemu array writes`: what is written to a LUN, recorded and replayed up to any point."""

import datetime
import time
from dataclasses import dataclass
from pathlib import Path

import click

from vssemu.api import lunfaults as api
from vssemu.faults.replay import Replay, last_before
from vssemu.faults.writelog import EntryKind, LogEntry, LogReader
from vssemu.lab.lab import Lab
from vssemu.tools.array_fault import lun_argument
from vssemu.tools.lab import name_option
from vssemu.tools.output import emit_json, emit_table, json_option
from vssemu.vss.identity import LunId

FILE = click.Path(dir_okay=False, path_type=Path)
log_argument = click.argument(
    "log", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)


@click.group()
def writes() -> None:
    """Write logs of LUNs, in the manner of dm-log-writes: recorded, listed, replayed.

    A log has every write with its data, every discard, flush and mark, in the order in which
    they were done. list and replay want the file alone, no lab.
    """


@writes.command()
@lun_argument
@click.option(
    "--log",
    type=FILE,
    required=True,
    metavar="FILE",
    help="A new file on this machine, outside the pool.",
)
@name_option
def record(lun_id: LunId, log: Path, name: str) -> None:
    """Record what is written to LUN from now on, until it is stopped.

    It goes on when the program that serves LUN is killed and restarted. When the log cannot be
    written to, it ends, and LUN goes on: `recordings` says so. To replay it onto what LUN is
    now, copy LUN first; a new LUN is all zeroes and needs no copy.
    """
    with Lab(name).array() as client:
        client.call(api.record_writes, lun_id, str(log.absolute()))
    click.echo(f"writes to {lun_id} are recorded in {log}")


@writes.command()
@lun_argument
@name_option
def stop(lun_id: LunId, name: str) -> None:
    """End the recording of LUN; the file is whole then."""
    with Lab(name).array() as client:
        count = client.call(api.stop_writes, lun_id)
    click.echo(f"writes to {lun_id} are recorded no more: {count} entries")


@writes.command()
@lun_argument
@click.argument("mark_name", metavar="NAME")
@name_option
def mark(lun_id: LunId, mark_name: str, name: str) -> None:
    """Put a mark by NAME into the log of LUN, to replay up to it."""
    with Lab(name).array() as client:
        number = client.call(api.mark_writes, lun_id, mark_name)
    click.echo(f"entry {number}: {mark_name}")


@writes.command()
@name_option
@json_option
def recordings(name: str, as_json: bool) -> None:
    """List what is being recorded."""
    with Lab(name).array() as client:
        found = client.call(api.list_recordings)
    if as_json:
        emit_json(found)
        return
    emit_table(
        ("LUN", "LOG", "ENTRIES", "ENDED"),
        [(one.lun, one.log, one.entries, one.failed) for one in found],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryFacts:
    """An entry as `--json` shows it.

    time: seconds since 1970. offset, length: bytes, of writes and zeroes. crc32: of the data.
    covers: the last entry that a flush covers.
    """

    number: int
    time: float
    kind: str
    offset: int | None = None
    length: int | None = None
    crc32: str | None = None
    covers: int | None = None
    name: str | None = None


@writes.command("list")
@log_argument
@json_option
def list_entries(log: Path, as_json: bool) -> None:
    """List the entries of the log FILE."""
    with LogReader(log) as reader:
        facts = [_facts(entry) for entry in reader.entries()]
        cut_off = reader.cut_off
    if as_json:
        emit_json(facts)
    else:
        emit_table(
            ("ENTRY", "TIME", "KIND", "OFFSET", "LENGTH", "CRC32", ""),
            [
                (
                    one.number,
                    _time(one.time),
                    one.kind,
                    one.offset,
                    one.length,
                    one.crc32,
                    _note(one),
                )
                for one in facts
            ],
        )
    _tell_cut_off(cut_off)


def _facts(entry: LogEntry) -> EntryFacts:
    has_place = entry.kind in {EntryKind.WRITE, EntryKind.ZERO}
    return EntryFacts(
        number=entry.number,
        time=entry.time,
        kind=entry.kind.name.lower(),
        offset=entry.offset if has_place else None,
        length=entry.length if has_place else None,
        crc32=f"{entry.checksum:08x}" if entry.kind is EntryKind.WRITE else None,
        covers=entry.covers,
        name=entry.name,
    )


def _note(one: EntryFacts) -> str | None:
    return one.name if one.covers is None else f"covers entries up to {one.covers}"


def _time(seconds: float) -> str:
    when = datetime.datetime.fromtimestamp(seconds).astimezone()
    return when.isoformat(timespec="microseconds")


def _tell_cut_off(cut_off: int | None) -> None:
    if cut_off is not None:
        click.echo(f"left out: {cut_off} bytes of an entry that was cut off at the end", err=True)


def _moment(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time, write seconds since 1970 or as {_time(time.time())}"
        ) from None


@writes.command()
@log_argument
@click.option(
    "--onto",
    type=FILE,
    required=True,
    metavar="IMAGE",
    help="What LUN was when recording began; made, all zeroes, when there is no such file.",
)
@click.option("--to", "number", type=click.IntRange(min=0), metavar="ENTRY", help="The last one.")
@click.option("--to-time", callback=_moment, metavar="T", help="As `list` shows it.")
@click.option("--to-mark", metavar="NAME", help="The first mark of that name.")
@json_option
def replay(
    log: Path,
    onto: Path,
    number: int | None,
    to_time: float | None,
    to_mark: str | None,
    as_json: bool,
) -> None:
    """Play the log FILE onto IMAGE, all of it or up to an entry, a time or a mark.

    Each entry is checked against its checksum before it is written.
    """
    if sum(limit is not None for limit in (number, to_time, to_mark)) > 1:
        raise click.UsageError("Give one of --to, --to-time, --to-mark.")
    if number is None:
        number = last_before(log, seconds=to_time, mark=to_mark)
    with Replay(log, onto) as replaying:
        replaying.to(number)
    if as_json:
        emit_json({"entries": number, "image": str(onto)})
    else:
        click.echo(f"{number} entries are played onto {onto}")
