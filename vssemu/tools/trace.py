"""`vssemu trace`: what a requester did with VSS on this host, and what that took.

A trace is the life of one requester object (IVssBackupComponents), from InitializeForBackup to
its release; the creations, imports, deletions and breaks of a host leave one each. The service
writes them to its state directory, so this command needs no running service.

`--json` prints one object (`--list --json`: a list of its first part). Fields are added to it
over time, none is renamed. Times are seconds; `start` counts from the trace's beginning.
`outcome` is `ok`, the name of an HRESULT, `running`, `cancelled`, and of a trace also
`interrupted` (the service died) or `abandoned` (the requester left); `code` is the HRESULT as
`0x` and 8 digits, or null; `text` says why. `seconds` is null while the end is not known.

    schema       "vssemu.trace/1"
    id, host, kind (creation, import, deletion, break), set_id, started (UTC), seconds
    outcome, code, text
    ended_by     release, requester gone, service stop, service died; null: it still lives
    context      0x........; context_name; attributes: a list of names
    requester    pid (0: outside the host), uid, program
    volumes      name, at (a list), filesystem, size (bytes), luns, snapshot_id, provider
    requests     the requester's calls: start, seconds, outcome, code, text, method, arguments
    phases       ...: sequence, name, row (its number in the sequence), detail
    events       ... to writers: writer, writer_id, instance_id, level, event, limit (seconds),
                 late (the limit passed), is_veto (it ended the writer's part). The event
                 FreezeToThaw stands for a writer's time between the two that passed.
    calls        ... of providers: provider, provider_id, method, arguments, returned (the
                 HRESULT that came, by name), result
    holds        ... the hold window: limit, volumes (volume, frozen, thawed: like start)
    left_out     entries that found no room
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from uuid import UUID

import click

from vssemu.host.paths import HostPaths
from vssemu.service.record import Head, Record
from vssemu.service.tracefiles import read_all
from vssemu.tools.naming import GUID
from vssemu.tools.output import emit_json, emit_table, json_option
from vssemu.tools.timescale import duration
from vssemu.tools.trace_page import render
from vssemu.tools.trace_text import show
from vssemu.vss.errors import ObjectNotFound
from vssemu.vss.identity import braced

STATE = HostPaths().state


@click.command()
@click.argument("trace_id", metavar="[TRACE]", required=False)
@click.option("--set", "set_id", metavar="ID", type=GUID, help="The newest of this snapshot set.")
@click.option("--list", "as_list", is_flag=True, help="List the traces instead, newest first.")
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page that needs nothing else.",
)
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="The host's state directory; default: this host's.",
)
@json_option
def trace(
    trace_id: str | None,
    set_id: UUID | None,
    as_list: bool,
    html: Path | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Show the last creation: phases, events to writers, calls of providers, hold window.

    Without a creation it is the newest trace of any kind. TRACE is an id of the list.
    """
    if sum((as_list, html is not None)) > 1 or (html is not None and as_json):
        raise click.UsageError("Give one of --list, --html and --json; --list goes with --json.")
    wanted = None if set_id is None else str(set_id)
    found = [
        one
        for one in read_all(state or STATE)
        if wanted in (None, one.set_id) and trace_id in (None, one.id)
    ]
    if as_list:
        _list(found, as_json=as_json)
        return
    one = _newest(found, state or STATE, trace_id, set_id)
    if as_json:
        emit_json(one)
    elif html is not None:
        html.write_text(render(one), encoding="utf-8")
        click.echo(html)
    else:
        show(one)


def _newest(
    found: Sequence[Record], state: Path, trace_id: str | None, set_id: UUID | None
) -> Record:
    creations = [one for one in found if one.kind == "creation"]
    for one in (*creations, *found):
        return one
    if trace_id is not None or set_id is not None:
        what = f"trace {trace_id}" if trace_id else f"trace of set {braced(set_id or UUID(int=0))}"
        hint = "vssemu trace --list"
    else:
        what = "trace of anything"
        hint = "run this inside a host: vssemu lab exec HOST -- vssemu trace"
    raise ObjectNotFound(f"there is no {what} in {state}", hint=hint, item=str(state))


def _list(found: Sequence[Record], *, as_json: bool) -> None:
    if as_json:
        names = [each.name for each in fields(Head)]
        emit_json([{name: getattr(one, name) for name in names} for one in found])
        return
    emit_table(
        ("TRACE", "BEGAN", "KIND", "SET", "OUTCOME", "TOOK", "WRITES HELD"),
        [
            (
                one.id,
                one.started[:19].replace("T", " "),
                one.kind,
                one.set_id or None,
                one.outcome,
                duration(one.seconds),
                duration(one.hold.seconds) if one.hold else None,
            )
            for one in found
        ],
    )
