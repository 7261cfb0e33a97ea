"""`vssemu array fault`: LUNs that fail, wait, are stuck, or lose their power."""

import datetime
from dataclasses import dataclass

import click

from vssemu.api import lunfaults as api
from vssemu.faults.luns import LunFault, LunFaultKind, Sectors, parse_sectors
from vssemu.lab.lab import Lab
from vssemu.tools.lab import name_option
from vssemu.tools.naming import LUN
from vssemu.tools.output import emit_json, emit_table, json_option, size_text
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.identity import LunId

lun_argument = click.argument("lun_id", metavar="LUN", type=LUN)
seed_option = click.option(
    "--seed", type=int, metavar="N", help="What is random is so by this number.  [default: drawn]"
)


def _sectors(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[Sectors, ...]:
    try:
        return () if text is None else parse_sectors(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group()
def fault() -> None:
    """Faults of LUNs and of snapshots, at run time, under whatever uses them.

    LUN is the id of either; only the engine cow has faults (vssemu lab up --engine cow). What is
    set stays until it is cleared, whatever dies or restarts, and goes with the LUN.
    """


@fault.command("set")
@lun_argument
@click.option("--read-error", "kind", flag_value="read-error", help="Reads fail (EIO).")
@click.option(
    "--write-error",
    "kind",
    flag_value="write-error",
    help="Writes and discards fail (EIO), and nothing of them is done.",
)
@click.option("--flush-error", "kind", flag_value="flush-error", help="Flushes fail (EIO).")
@click.option(
    "--latency",
    "seconds",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    metavar="SECONDS",
    help="Requests of all kinds begin so much later.",
)
@click.option(
    "--stuck",
    "kind",
    flag_value="stuck",
    help="Requests of all kinds wait until they are released, or the fault is cleared.",
)
@click.option(
    "--sectors",
    callback=_sectors,
    metavar="A-B[,...]",
    help="Only requests that touch these sectors of 512 bytes, A and B included.",
)
@click.option(
    "--probability",
    type=click.FloatRange(min=0, min_open=True, max=1),
    default=1.0,
    metavar="P",
    help="Errors of reads and writes: this share of all sectors is bad, the same ones each time."
    " Else: this share of requests is met.  [default: 1]",
)
@seed_option
@click.option(
    "--times",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="How many requests are met; 0 is all.",
)
@click.option(
    "--after",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="How many requests that would be met pass before.",
)
@name_option
@json_option
def set_fault(
    lun_id: LunId,
    kind: str | None,
    seconds: float | None,
    sectors: tuple[Sectors, ...],
    probability: float,
    seed: int | None,
    times: int,
    after: int,
    name: str,
    as_json: bool,
) -> None:
    """Have requests to LUN go wrong, beside what is set already.

    The blocks of a LUN have 8 sectors: a request that touches a bad sector fails as a whole.
    Stuck requests hold places that all LUNs of their lunfs share, of which there are some
    hundred: a LUN with many of them can stop others.
    """
    if (kind is None) == (seconds is None):
        raise click.UsageError(
            "Give one of --read-error, --write-error, --flush-error, --latency, --stuck."
        )
    try:
        wanted = LunFault(
            kind=LunFaultKind(kind or "latency"),
            sectors=sectors,
            seconds=seconds,
            probability=probability,
            seed=seed,
            times=times,
            after=after,
        )
    except InvalidArgument as error:
        raise click.UsageError(f"{error.fact} [{error.hint}]") from None
    with Lab(name).array() as client:
        known = client.call(api.set_lun_fault, lun_id, wanted)
    if as_json:
        emit_json(known)
    else:
        click.echo(f"set: {lun_id}: {known.describe()}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LunFaultFacts:
    """A fault of a LUN as `--json` shows it. met: requests so far. standing: stuck at it now."""

    lun: str
    kind: str
    sectors: tuple[str, ...]
    seconds: float | None
    probability: float
    seed: int | None
    times: int
    after: int
    met: int
    standing: int


@fault.command("list")
@name_option
@json_option
def list_faults(name: str, as_json: bool) -> None:
    """List the faults that are set, how many requests met each, and how many are stuck.

    LUNs that are volatile or without power are listed by `vssemu array fault power`.
    """
    with Lab(name).array() as client:
        found = client.call(api.list_lun_faults)
    if as_json:
        emit_json(
            [
                LunFaultFacts(
                    lun=one.lun,
                    kind=one.fault.kind.value,
                    sectors=tuple(map(str, one.fault.sectors)),
                    seconds=one.fault.seconds,
                    probability=one.fault.probability,
                    seed=one.fault.seed,
                    times=one.fault.times,
                    after=one.fault.after,
                    met=one.met,
                    standing=one.standing,
                )
                for one in found
            ]
        )
        return
    emit_table(
        ("LUN", "WHAT", "MET", "STUCK NOW"),
        [(one.lun, one.fault.describe(), one.met, one.standing) for one in found],
    )


@fault.command()
@click.argument("lun_id", metavar="[LUN]", type=LUN, required=False)
@name_option
def clear(lun_id: LunId | None, name: str) -> None:
    """Take back the faults of LUN, or of all, and let stuck requests go.

    Volatile LUNs stay volatile, and the power of others does not come back by this.
    """
    with Lab(name).array() as client:
        count = client.call(api.clear_lun_faults, lun_id)
    click.echo(f"{count} fault{'s'[: count != 1]} taken back")


@fault.command()
@lun_argument
@name_option
def release(lun_id: LunId, name: str) -> None:
    """Let requests go that are stuck at LUN; those that come later are stuck again."""
    with Lab(name).array() as client:
        count = client.call(api.release_lun, lun_id)
    click.echo(f"{count} request{'s'[: count != 1]} released")


@fault.command()
@lun_argument
@click.argument("switch", type=click.Choice(["on", "off"]))
@name_option
def volatile(lun_id: LunId, switch: str, name: str) -> None:
    """Have what is written to LUN be lost by a power loss until it is flushed, or not.

    LUN and its snapshots, or its origin, share one power supply: this means all of them. Every
    write costs one more read while it is on. What was written before counts as flushed.
    """
    with Lab(name).array() as client:
        client.call(api.set_volatile, lun_id, switch == "on")
    click.echo(f"{lun_id} is {'volatile' if switch == 'on' else 'not volatile'} now")


@fault.command("power-loss")
@lun_argument
@seed_option
@click.option(
    "--back-after",
    type=click.FloatRange(min=0, max=86400),
    metavar="SECONDS",
    help="When the power comes back.  [default: with power-on]",
)
@name_option
@json_option
def power_loss(
    lun_id: LunId, seed: int | None, back_after: float | None, name: str, as_json: bool
) -> None:
    """Take the power of LUN, of its snapshots or its origin, and what was not flushed.

    The LUN must be volatile. Each 4 KiB block that was written and not flushed is left with a
    random one of the contents it had since the last flush; requests fail (EIO) until the power
    is back. Hosts see a LUN that fails; mount its volumes anew after that.
    """
    with Lab(name).array() as client:
        loss = client.call(api.power_loss, lun_id, seed, back_after)
    if as_json:
        emit_json(loss)
        return
    back = "power-on gives it back" if back_after is None else f"back in {back_after:g} s"
    click.echo(
        f"{lun_id} has no power: {loss.lost} of {loss.blocks} blocks not flushed are lost,"
        f" seed {loss.seed}; {back}"
    )


@fault.command("power-on")
@lun_argument
@name_option
def power_on(lun_id: LunId, name: str) -> None:
    """Give LUN, its snapshots or its origin, the power back at once."""
    with Lab(name).array() as client:
        client.call(api.power_on, lun_id)
    click.echo(f"{lun_id} has power")


@fault.command()
@name_option
@json_option
def power(name: str, as_json: bool) -> None:
    """List the LUNs that are volatile or without power, by the origin of their chain."""
    with Lab(name).array() as client:
        found = client.call(api.list_lun_power)
    if as_json:
        emit_json(found)
        return
    emit_table(
        ("ORIGIN", "VOLATILE", "POWER", "NOT FLUSHED", "LOSSES"),
        [
            (
                one.origin,
                "yes" if one.is_volatile else "no",
                _power_text(one),
                size_text(one.pending),
                one.losses,
            )
            for one in found
        ],
    )


def _power_text(status: api.PowerStatus) -> str:
    if not status.is_off:
        return "on"
    if status.back_at is None:
        return "off"
    back = datetime.datetime.fromtimestamp(status.back_at).astimezone()
    return f"off until {back:%H:%M:%S}"
