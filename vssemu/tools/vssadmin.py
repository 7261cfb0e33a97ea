r"""`vssadmin`: listings of shadow copies, writers, providers and volumes, as Windows has them.

    list providers | list shadows [/for=V] [/shadow=ID | /set=ID] | list volumes | list writers

Words and options know no case; options begin with / or - and stand in any order. What is
printed goes to stdout, failures too; exit status 0, or 2 for bad usage and for any failure.
Ours: `--json` gives the facts alone, and failures then go to stderr. What changes anything
(create, delete, resize, revert) does not exist here.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import click

from vssemu.api import disks, registry
from vssemu.api.blocking import Vss
from vssemu.rpc.errors import RpcError
from vssemu.tools import inside
from vssemu.tools.naming import volume_name
from vssemu.tools.output import describe, emit_json
from vssemu.tools.provider import ProviderFacts, provider_facts
from vssemu.tools.shadows import ShadowFacts, all_shadows, all_writers, supported_volumes
from vssemu.tools.vds import volume_facts
from vssemu.tools.vssadmin_text import (
    BANNER,
    NOTHING,
    WAITING,
    providers_text,
    shadows_text,
    volumes_text,
    writers_text,
)
from vssemu.tools.windows_options import Line, UsageError, parse
from vssemu.tools.windows_text import place_of
from vssemu.vss.errors import ObjectNotFound, VssError
from vssemu.vss.host import Volume
from vssemu.vss.identity import parse_guid, volume_guid_name

DONE = 0
FAILED = 2
"""Exit statuses; a wrong command line is FAILED too."""

PATIENCE = 2.0
"""Seconds that writers have to answer before the user is told to wait."""

Print = Callable[[Iterable[str]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command. run: asks, and prints by the function it is given, or JSON for None."""

    title: str
    words: tuple[str, str]
    about: str
    run: Callable[[Vss, Line, Print | None], None]
    syntax: str = ""
    options: frozenset[str] = frozenset()


def main() -> None:
    """Run as the console script."""
    # By way of click, which ends quietly when the reader of a pipe has gone.
    vssadmin(prog_name="vssadmin")


@click.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": ["--help"],
    }
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def vssadmin(arguments: tuple[str, ...]) -> None:
    """List shadow copies, writers, providers and volumes as Windows's vssadmin does.

    ARGUMENTS are those of vssadmin: list shadows [/for=V] [/shadow=ID | /set=ID], list
    writers, list providers, list volumes; --json gives the facts as JSON.
    """
    sys.exit(run(arguments))


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    try:
        line = parse(argv)
    except UsageError as error:
        _print([*BANNER, f"Error: {error}", "", *_usage()])
        return FAILED
    as_json = "json" in line.options
    if not as_json:
        _print(BANNER)
    try:
        return _dispatch(line, None if as_json else _print)
    except UsageError as error:
        _fail(f"Error: {error}", as_json=as_json)
        command = _COMMANDS.get(line.words)
        _fail("\n" + "\n".join(_usage_of(command) if command else _usage()), as_json=as_json)
    except (VssError, RpcError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        _fail(f"Error: {describe(error)}", as_json=as_json)
    return FAILED


def _dispatch(line: Line, show: Print | None) -> int:
    command = _COMMANDS.get(line.words)
    if line.wants_help() or not line.words:
        _print(_usage_of(command) if command else _usage())
        return DONE if line.wants_help() else FAILED
    if command is None:
        raise UsageError("Invalid command.")
    unknown = line.options.keys() - command.options - {"json"}
    if unknown:
        raise UsageError(f"Invalid option: /{min(unknown)}")
    with inside.service() as vss:
        command.run(vss, line, show)
    return DONE


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _fail(text: str, *, as_json: bool) -> None:
    click.echo(text, err=as_json)


def _usage() -> list[str]:
    width = max(len(command.title) for command in _COMMANDS.values())
    rows = [f"{c.title:<{width}}  - {c.about}" for c in _COMMANDS.values()]
    return ["---- Commands Supported ----", "", *rows]


def _usage_of(command: Command) -> list[str]:
    head = f"{command.title} {command.syntax}".rstrip()
    return [head, f"    - {command.about}", "    - --json prints the facts as JSON"]


def _list_shadows(vss: Vss, line: Line, show: Print | None) -> None:
    chosen = _choice(line)
    volumes = {one.name: one for one in vss.client.call(disks.list_volumes)}
    wanted = _volume_wanted(line, volumes.values())
    with vss.backup_components() as backup:
        found = [
            one
            for one in all_shadows(backup)
            if chosen(one) and wanted in (None, one.original_volume)
        ]
        names: dict[UUID, str] = {one.provider_id: one.name for one in backup.query_providers()}
    if show is None:
        emit_json(found)
        return
    places = {name: _short(at) for name, one in volumes.items() if (at := place_of(one))}
    show(shadows_text(found, places, names) if found else [NOTHING])


def _short(place: str) -> str:
    r"""Return a letter without its backslash, as the name in round brackets has it."""
    return place[:2] if place[1:] == ":\\" else place


def _choice(line: Line) -> Callable[[ShadowFacts], bool]:
    if {"shadow", "set"} <= line.options.keys():
        raise UsageError("Give /shadow or /set, not both.")
    if "shadow" in line.options:
        shadow_id = _guid(line, "shadow")
        return lambda one: one.id == shadow_id
    if "set" in line.options:
        set_id = _guid(line, "set")
        return lambda one: one.set_id == set_id
    return lambda _: True


def _guid(line: Line, option: str) -> UUID:
    try:
        return parse_guid(line.options[option] or "")
    except ValueError:
        raise UsageError(f"Invalid option value: /{option} takes an ID.") from None


def _volume_wanted(line: Line, volumes: Iterable[Volume]) -> str | None:
    """Return the volume GUID path that /for means; a volume elsewhere has only that name."""
    if "for" not in line.options:
        return None
    text = line.options["for"] or ""
    try:
        name = volume_name(text)
    except ValueError:
        raise UsageError(f"Invalid option value: /for={text} names no volume.") from None
    if name.startswith("\\\\?\\"):
        return name
    for volume in volumes:
        if name in volume.letters or name.rstrip("/") in volume.mount_points:
            return volume_guid_name(volume.guid)
    raise ObjectNotFound(f"volume {text} is not on this host", item=text)


def _list_writers(vss: Vss, _: Line, show: Print | None) -> None:
    def still_waiting() -> None:
        if show is not None:
            show(WAITING)

    with vss.backup_components() as backup:
        found = all_writers(backup, patience=PATIENCE, still_waiting=still_waiting)
    if show is None:
        emit_json(found)
    else:
        show(writers_text(found))


def _list_providers(vss: Vss, _: Line, show: Print | None) -> None:
    found: list[ProviderFacts] = [
        provider_facts(one) for one in vss.client.call(registry.query_providers)
    ]
    if show is None:
        emit_json(found)
    else:
        show(providers_text(found) if found else [NOTHING])


def _list_volumes(vss: Vss, _: Line, show: Print | None) -> None:
    found = supported_volumes(vss)
    if show is None:
        emit_json([volume_facts(one) for one in found])
    else:
        show(volumes_text(found) if found else [NOTHING])


_COMMANDS: Mapping[tuple[str, ...], Command] = {
    command.words: command
    for command in (
        Command(
            title="List Providers",
            words=("list", "providers"),
            about="List the registered shadow copy providers",
            run=_list_providers,
        ),
        Command(
            title="List Shadows",
            words=("list", "shadows"),
            about="List the shadow copies of this host",
            run=_list_shadows,
            syntax="[/For=ForVolumeSpec] [/Shadow=ShadowId | /Set=ShadowSetId]",
            options=frozenset({"for", "shadow", "set"}),
        ),
        Command(
            title="List Volumes",
            words=("list", "volumes"),
            about="List the volumes that shadow copies can be made of",
            run=_list_volumes,
        ),
        Command(
            title="List Writers",
            words=("list", "writers"),
            about="List the subscribed writers and their state",
            run=_list_writers,
        ),
    )
}
