"""`vssemu lab`: labs of hosts and an array on this machine."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from vssemu.lab import config, paths
from vssemu.lab.config import LabConfig
from vssemu.lab.lab import Lab
from vssemu.tools.output import FAILED, emit_json, emit_table, json_option, report
from vssemu.vss.errors import InvalidArgument, VssError

name_option = click.option("--name", default="lab", show_default=True, help="Which lab.")


@click.group()
def lab() -> None:
    """Labs: hosts as namespaces, and the storage array that they share."""


@lab.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--name", default=None, help="Name of the lab.  [default: lab]")
@click.option(
    "--engine",
    type=click.Choice(config.ENGINES),
    default=None,
    help="Snapshot engine of the array.",
)
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    metavar="F:=2G[:ext4|xfs[:whole]][@HOST]",
    help="A LUN with a volume on it, or with several (F:=1G+G:=1G:xfs); whole: without a"
    " partition table. For the first host unless one is named. Repeatable.",
)
@click.option(
    "--hosts", default=None, metavar="A,B", help="Hosts.  [default: systemOne,systemTwo]"
)
@click.option(
    "--pool",
    type=click.Path(path_type=Path),
    default=None,
    help="Directory of the array's pool; it stays when the lab is taken down.",
)
def up(
    file: Path | None,
    name: str | None,
    engine: str | None,
    volumes: tuple[str, ...],
    hosts: str | None,
    pool: Path | None,
) -> None:
    """Bring a lab up, from options, a TOML FILE, or both (options win)."""
    fields: dict[str, Any] = dict(config.load_toml(file)) if file else {}
    options: dict[str, Any] = {
        "name": name,
        "engine": engine,
        "hosts": hosts.split(",") if hosts else None,
        "volumes": list(volumes) or None,
        "pool": str(pool.absolute()) if pool else None,
    }
    fields |= {key: value for key, value in options.items() if value is not None}
    wanted = _config(fields)
    if Lab(wanted.name).up(wanted):
        click.echo(f"lab {wanted.name} is up: {', '.join(wanted.hosts)}")
        if wanted.pool is not None:
            above = Path(*Path(wanted.pool).parts[:2])
            click.echo(
                f"note: the pool lies below {above}, so hosts see {above} as it was just now",
                err=True,
            )
    else:
        click.echo(f"lab {wanted.name} was up already")


def _config(fields: dict[str, Any]) -> LabConfig:
    texts = fields.pop("volumes", ())
    volumes = tuple(volume for text in texts for volume in config.parse_volumes(text))
    try:
        plain = msgspec.convert(fields, type=LabConfig)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"the lab's description: {error}") from error
    return replace(plain, volumes=volumes)


@lab.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec(name: str, host: str, command: tuple[str, ...]) -> None:  # noqa: A001
    """Run COMMAND on HOST; its exit status passes through."""
    sys.exit(Lab(name).execute(host, list(command)))


@lab.command("list")
@json_option
def list_labs(as_json: bool) -> None:
    """List the labs of this machine."""
    names = paths.all_labs()
    if as_json:
        emit_json(names)
    else:
        for name in names:
            click.echo(name)


@lab.command()
@name_option
@json_option
def status(name: str, as_json: bool) -> None:
    """Show how a lab stands."""
    found = Lab(name).status()
    if as_json:
        emit_json(found)
        return
    click.echo(f"lab {found.name}: {'running' if found.running else 'not running'}")
    click.echo(f"array: pid {found.array.pid or '-'}, pool {found.array.pool}")
    emit_table(
        ("HOST", "PID", "VOLUMES"),
        [(h.name, h.pid, " ".join(h.volumes)) for h in found.hosts],
    )


@lab.command()
@name_option
def logs(name: str) -> None:
    """Print the logs of a lab's services."""
    for file in Lab(name).logs():
        click.echo(f"==> {file} <==")
        with file.open(errors="replace") as text:
            shutil.copyfileobj(text, sys.stdout)


@lab.command()
@name_option
@click.option("--force", is_flag=True, help="Do not wait for an orderly end.")
@click.option("--all", "every", is_flag=True, help="All labs of this machine.")
def down(name: str, force: bool, every: bool) -> None:
    """Take a lab away with all it has, whatever state it is in."""
    failed = False
    for one in paths.all_labs() if every else [name]:
        try:
            was_there = Lab(one).down(force=force)
        except VssError as error:
            report(error)
            failed = True
        else:
            click.echo(f"lab {one} is down" if was_there else f"there is no lab {one}")
    if failed:
        sys.exit(FAILED)


@lab.command()
@name_option
@click.argument("host")
def poweroff(name: str, host: str) -> None:
    """Press a host's power button."""
    Lab(name).power_off(host)
    click.echo(f"{host} is off")


@lab.command()
@name_option
@click.argument("host")
def start(name: str, host: str) -> None:
    """Switch a host on again."""
    Lab(name).start(host)
    click.echo(f"{host} is on")
