"""`vssemu array`: the administration of a lab's storage array."""

from dataclasses import dataclass
from typing import Any

import click

from vssemu.api import array as api
from vssemu.lab.lab import Lab
from vssemu.tools.array_fault import fault
from vssemu.tools.array_writes import writes
from vssemu.tools.exchanging import export_cow, import_cow
from vssemu.tools.lab import name_option
from vssemu.tools.naming import LUN, SIZE
from vssemu.tools.output import emit_json, emit_table, json_option, size_text
from vssemu.vss.array import ArrayLun, PoolCondition, PoolStatus
from vssemu.vss.identity import Initiator, LunId

lun_argument = click.argument("lun_id", metavar="ID", type=LUN)


_CONDITIONS = {
    PoolCondition.AMPLE: "ample",
    PoolCondition.LOW: "low: snapshots end, none is made",
    PoolCondition.STARVED: "starved: no snapshot is left to end, writes to LUNs may fail",
}


def _promised(status: PoolStatus) -> str:
    text = size_text(status.provisioned)
    is_too_much = status.provisioned > status.size
    return f"{text}, more than the pool can hold" if is_too_much else text


size_argument = click.argument("size", type=SIZE)


@click.group()
def array() -> None:
    """The storage array of a lab, as its administrator."""


array.add_command(fault)
array.add_command(writes)


@array.group()
def lun() -> None:
    """LUNs of the array, snapshots among them."""


@array.group()
def pool() -> None:
    """The pool that all LUNs share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LunFacts:
    """A LUN as `--json` shows it. size, allocated: bytes."""

    id: str
    serial: str
    size: int
    allocated: int
    origin: str | None
    engine: str
    kind: str
    masked_to: tuple[str, ...]
    set_id: str | None
    state: str


def facts_of(known: ArrayLun) -> LunFacts:
    """Return what users and scripts see of a LUN."""
    return LunFacts(
        id=known.id,
        serial=known.serial,
        size=known.size,
        allocated=known.allocated,
        origin=known.origin,
        engine=known.engine,
        kind=known.kind.value,
        masked_to=known.masked_to,
        set_id=None if known.set_id is None else str(known.set_id),
        state=known.state.value,
    )


@lun.command()
@size_argument
@name_option
@json_option
def create(size: int, name: str, as_json: bool) -> None:
    """Create a thin LUN of SIZE, for example 2G, and print its id. No host sees it yet."""
    with Lab(name).array() as client:
        known = client.call(api.create_lun, size)
    if as_json:
        emit_json(facts_of(known))
    else:
        click.echo(known.id)


@lun.command("list")
@name_option
@json_option
def list_luns(name: str, as_json: bool) -> None:
    """List every LUN."""
    with Lab(name).array() as client:
        found = [facts_of(known) for known in client.call(api.inventory)]
    if as_json:
        emit_json(found)
        return
    emit_table(
        ("ID", "SIZE", "ALLOCATED", "KIND", "STATE", "UNMASKED TO", "ORIGIN"),
        [
            (
                one.id,
                size_text(one.size),
                size_text(one.allocated),
                one.kind,
                one.state,
                " ".join(one.masked_to) or None,
                one.origin,
            )
            for one in found
        ],
    )


@lun.command()
@lun_argument
@name_option
def delete(lun_id: LunId, name: str) -> None:
    """Delete the LUN ID, which no host may see and no copy may stand on."""
    with Lab(name).array() as client:
        client.call(api.delete_lun, lun_id)
    click.echo(f"{lun_id} is deleted")


@lun.command()
@lun_argument
@size_argument
@name_option
@json_option
def extend(lun_id: LunId, size: int, name: str, as_json: bool) -> None:
    """Grow the LUN ID to SIZE; its hosts see that after a rescan."""
    with Lab(name).array() as client:
        known = client.call(api.extend_lun, lun_id, size)
    if as_json:
        emit_json(facts_of(known))
    else:
        click.echo(f"{lun_id} has {size_text(known.size)}")


@lun.command()
@lun_argument
@click.argument("host")
@click.option("--surprise", is_flag=True, help="Even when it is in use there.")
@name_option
def mask(lun_id: LunId, host: str, surprise: bool, name: str) -> None:
    """Mask the LUN ID from HOST."""
    with Lab(name).array() as client:
        client.call(api.mask_lun, lun_id, Initiator(host), surprise=surprise)
    click.echo(f"{lun_id} is masked from {host}")


@lun.command()
@lun_argument
@click.argument("host")
@click.option("--shared", is_flag=True, help="Even when another host sees it.")
@name_option
def unmask(lun_id: LunId, host: str, shared: bool, name: str) -> None:
    """Unmask the LUN ID to HOST, which then must rescan."""
    with Lab(name).array() as client:
        client.call(api.unmask_lun, lun_id, Initiator(host), shared=shared)
    click.echo(f"{lun_id} is unmasked to {host}")


lun.add_command(export_cow)
lun.add_command(import_cow)


@pool.command()
@name_option
@json_option
def status(name: str, as_json: bool) -> None:
    """Show where the pool is and how full.

    With less free than needed, snapshots end, so that the LUNs go on: list them by their state.
    """
    with Lab(name).array() as client:
        found = client.call(api.pool_status)
    if as_json:
        emit_json(found)
        return
    rows: list[tuple[str, Any]] = [
        ("directory", found.directory),
        ("image", found.image),
        ("file system", found.filesystem),
        ("size", size_text(found.size)),
        ("free", size_text(found.free)),
        ("needed", size_text(found.needed)),
        ("condition", _CONDITIONS[found.condition]),
        ("ballast", size_text(found.ballast)),
        ("given to LUNs", size_text(found.allocated)),
        ("promised to LUNs", _promised(found)),
        ("LUNs", found.luns),
        ("ended for want of room", found.ended),
    ]
    emit_table(("POOL", name), rows)
