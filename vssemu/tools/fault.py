"""`vssemu fault`: what is to go wrong, in the processes of a host or in a lab's array.

Inside a host it reaches the service, providers and writers of that host; the array is outside
the hosts, and so is the command then. Nothing of it needs the processes to run.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import click

from vssemu.faults import HOST_DIRECTORY, POINTS, Fault, FaultStore
from vssemu.faults.names import check, kind_of
from vssemu.faults.plan import Action
from vssemu.lab.known import Known
from vssemu.lab.paths import LabPaths
from vssemu.tools import inside
from vssemu.tools.output import emit_json, emit_table, json_option
from vssemu.vss.errors import AccessDenied, Fail, InvalidArgument, ObjectNotFound
from vssemu.vss.hresult import Hresult

ARRAY = "array"

name_option = click.option(
    "--name", "lab", help=f"A lab, outside its hosts: the points of its {ARRAY}.  [default: lab]"
)


def _where(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None:
        _checked(text)
    return text


def _point(context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    where = context.params.get("where")
    if text is not None and where is not None:
        _checked(where, text)
    return text


def _checked(where: str, name: str | None = None) -> None:
    try:
        check(where, name)
    except ObjectNotFound as error:
        raise click.BadParameter(f"{error.fact} [{error.hint}]") from None


where_argument = click.argument("where", callback=_where, is_eager=True)
where_optional = click.argument("where", callback=_where, required=False, is_eager=True)
point_argument = click.argument("point", callback=_point)


@click.group()
def fault() -> None:
    """Faults on demand: make something go wrong at a named point.

    WHERE is service, provider or writer inside a host, array outside; provider:LABEL and
    writer:LABEL mean the one that was given this label.
    """


def _code(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    known = [code.name for code in Hresult if code.is_failure]
    if text is not None and text not in known:
        near = get_close_matches(text.upper(), known, n=3, cutoff=0.5)
        raise click.BadParameter(
            f"{text!r} is the name of no failure" + (f", near it: {', '.join(near)}" * bool(near))
        )
    return text


@fault.command("set")
@where_argument
@point_argument
@click.option("--code", callback=_code, metavar="NAME", help="Fail with this HRESULT.")
@click.option(
    "--raise",
    "text",
    is_flag=False,
    flag_value="",
    metavar="[TEXT]",
    help="Raise an exception that no contract knows.",
)
@click.option("--delay", type=click.FloatRange(min=0), metavar="SECONDS", help="Take longer.")
@click.option("--hang", is_flag=True, help="Do not answer any more, whoever gives up.")
@click.option("--crash", is_flag=True, help="Die by SIGKILL.")
@click.option("--stop", is_flag=True, help="Wait there until it is released.")
@click.option(
    "--times",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="How often; 0 is always.",
)
@click.option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="How often the point is passed before.",
)
@name_option
def set_fault(
    where: str,
    point: str,
    code: str | None,
    text: str | None,
    delay: float | None,
    hang: bool,
    crash: bool,
    stop: bool,
    times: int,
    skip: int,
    lab: str | None,
) -> None:
    """Have something go wrong at POINT of WHERE, in place of what was set there.

    Write --raise without TEXT behind WHERE and POINT.
    """
    actions: dict[Action, str | float | None] = {}
    if code is not None:
        actions["code"] = code
    if text is not None:
        actions["raise"] = text or None
    if delay is not None:
        actions["delay"] = delay
    flags: dict[Action, bool] = {"hang": hang, "crash": crash, "stop": stop}
    actions |= {action: None for action, is_given in flags.items() if is_given}
    if len(actions) != 1:
        raise click.UsageError("Give one of --code, --raise, --delay, --hang, --crash, --stop.")
    ((action, value),) = actions.items()
    try:
        wanted = Fault(where, point, action, value, times, skip)
    except InvalidArgument as error:
        raise click.UsageError(f"{error.fact} [{error.hint}]") from None
    _store(lab, where).arm(wanted)
    click.echo(f"set: {where} {point}: {wanted.describe()}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultFacts:
    """A point as `--json` shows it.

    action: None where nothing is set and a process stands only. times: 0 is always. standing:
    whether a process stands there until it is released.
    """

    where: str
    point: str
    action: str | None = None
    value: str | float | None = None
    times: int | None = None
    skip: int | None = None
    standing: bool = False


@fault.command("list")
@name_option
@json_option
def list_faults(lab: str | None, as_json: bool) -> None:
    """List what is set, with what is left of the counts, and who stands where."""
    store = _store(lab)
    armed, standing = store.armed(), store.standing()
    if as_json:
        emit_json(_facts(armed, standing))
        return
    rows = [(each.where, each.name, each.describe()) for each in armed]
    rows += [(where, name, "stands there until released") for where, name in standing]
    emit_table(("WHERE", "POINT", "WHAT"), sorted(rows))


def _facts(armed: Sequence[Fault], standing: Sequence[tuple[str, str]]) -> list[FaultFacts]:
    facts = [
        FaultFacts(
            where=each.where,
            point=each.name,
            action=each.action,
            value=each.value,
            times=each.times,
            skip=each.skip,
            standing=(each.where, each.name) in standing,
        )
        for each in armed
    ]
    listed = {(each.where, each.point) for each in facts}
    return facts + [
        FaultFacts(where=where, point=name, standing=True)
        for where, name in standing
        if (where, name) not in listed
    ]


@fault.command()
@where_argument
@point_argument
@name_option
def release(where: str, point: str, lab: str | None) -> None:
    """Let go who stands at POINT of WHERE, by --stop or --hang."""
    if not _store(lab, where).release(where, point):
        raise ObjectNotFound(
            f"nobody stands at {where} {point}",
            hint="vssemu fault list shows who stands where",
            item=point,
        )
    click.echo(f"released: {where} {point}")


@fault.command()
@where_optional
@click.argument("point", callback=_point, required=False)
@name_option
def clear(where: str | None, point: str | None, lab: str | None) -> None:
    """Take back what is set, all of it or at a place, and let go who stands there."""
    count = _store(lab, where).clear(where, point)
    click.echo(f"{count} fault{'s'[: count != 1]} taken back")


@dataclass(frozen=True, kw_only=True, slots=True)
class PointFacts:
    """A point that there is, as `--json` shows it."""

    where: str
    point: str
    text: str


@fault.command()
@where_optional
@json_option
def points(where: str | None, as_json: bool) -> None:
    """List all points, with a word of what each is."""
    kinds = [kind_of(where)] if where else list(POINTS)
    found = [
        PointFacts(where=kind, point=name, text=text)
        for kind in kinds
        for name, text in POINTS[kind].items()
    ]
    if as_json:
        emit_json(found)
        return
    emit_table(("WHERE", "POINT", "WHAT"), [(one.where, one.point, one.text) for one in found])


def _store(lab: str | None, where: str | None = None) -> FaultStore:
    """Return the faults of this host, or of a lab's array.

    Raises AccessDenied, ObjectNotFound without such a lab, Fail outside a host.
    """
    if os.geteuid() != 0:
        raise AccessDenied("only root makes faults", hint="run the command with sudo")
    is_host = inside.SOCKET.exists()
    wants_array = where is not None and kind_of(where) == ARRAY
    if wants_array or lab is not None or (where is None and not is_host):
        if where is not None and not wants_array:
            raise InvalidArgument(
                f"{where} is inside the hosts",
                hint=f"vssemu lab exec --name {lab} HOST -- vssemu fault ...",
                item=where,
            )
        paths = LabPaths(name=lab or "lab")
        Known(paths).config()
        return FaultStore(paths.faults)
    if not is_host:
        raise Fail(
            f"no VSS service answers at {inside.SOCKET}: this is no host",
            hint="run this inside a host: vssemu lab exec HOST -- COMMAND",
            item=str(inside.SOCKET),
        )
    return FaultStore(HOST_DIRECTORY)
