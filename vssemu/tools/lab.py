"""`vssemu lab`: labs of hosts and an array on this machine."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from vssemu.lab import config, description, paths
from vssemu.lab.growth import Growth
from vssemu.lab.lab import Lab
from vssemu.lab.status import all_labs
from vssemu.tools.naming import LETTER
from vssemu.tools.output import FAILED, emit_json, emit_table, json_option, report, size_text
from vssemu.vss.errors import VssError

name_option = click.option("--name", default="lab", show_default=True, help="Which lab.")

VOLUME_FORM = "F:=2G[:ext4|xfs[:whole]][@HOST][+...]"


def _engines(_context: click.Context, _option: click.Parameter, begun: str) -> list[Any]:
    """Return what a shell offers for an engine, with what each is."""
    fitting = (each for each in config.ENGINES.items() if each[0].startswith(begun))
    return [CompletionItem(name, help=text) for name, text in fitting]


@click.group()
def lab() -> None:
    """Labs: hosts as namespaces, and the storage array that they share."""


@lab.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--name", default=None, help="Name of the lab.  [default: lab]")
@click.option(
    "--engine",
    type=click.Choice(list(config.ENGINES)),
    default=None,
    shell_complete=_engines,
    help="Snapshot engine of the array; see above.",
)
@click.option(
    "--chunk-size",
    default=None,
    metavar="SIZE",
    help="Engine cow: what is kept of old data at once, 4K to 1M; of LUNs without copies.",
)
@click.option(
    "--safety",
    type=click.Choice(list(config.SAFETIES)),
    default=None,
    help="Engine cow: what copies outlive, a loss of power (the default) or a kill alone.",
)
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    metavar=VOLUME_FORM,
    help="A LUN with a volume on it; for the first host unless one is named. + joins volumes "
    "onto one LUN, `whole` is a file system without a partition table. Repeatable.",
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
    chunk_size: str | None,
    safety: str | None,
    volumes: tuple[str, ...],
    hosts: str | None,
    pool: Path | None,
) -> None:
    """Bring a lab up, from options, a TOML FILE, or both (options win).

    What is not given is as recorded of a lab that is there, so that `lab up` with nothing but
    its name brings a lab back after a restart of the machine. A lab that is up gets the hosts
    and volumes that it lacks; it is refused that anything else differs.

    \b
    Engines:
      reflink   clones by the file system; all bytes go through the kernel alone
      cow       old data kept as dm-snapshot does, by lunfs over FUSE; fails on demand
    \b
    FILE, every key optional:
      name = "lab"
      hosts = ["systemOne", "systemTwo"]
      engine = "reflink"                    # or "cow"
      chunk_size = "16K"                    # engine cow: 4K to 1M
      safety = "power"                      # engine cow: or "process"
      pool = "/srv/pool"                    # relative: to the file's directory
      volumes = ["F:=2G", "G:=1G:xfs@systemTwo", "H:=64M+I:=64M"]
    \b
    Volumes as tables, instead:
      [[volumes]]
      letter = "F"
      size = "2G"                           # or bytes
      filesystem = "ext4"                   # the default; or "xfs"
      host = "systemTwo"                    # default: the first host
      whole = false                         # a file system without a partition table
      lun = "data"                          # volumes of one label share a LUN
    """  # noqa: D301  (click keeps the lines of what follows a \b)
    fields = description.load_toml(file) if file else {}
    options: dict[str, Any] = {
        "name": name,
        "engine": engine,
        "chunk_size": chunk_size,
        "safety": safety,
        "hosts": hosts.split(",") if hosts else None,
        "volumes": list(volumes) or None,
        "pool": str(pool.absolute()) if pool else None,
    }
    fields |= {key: value for key, value in options.items() if value is not None}
    known = Lab(config.checked_name(fields.get("name", "lab")))
    before = known.recorded()
    wanted = description.described(fields, before)
    added = known.up(wanted)
    if not added:
        click.echo(f"lab {wanted.name} was up already")
    elif before is not None and set(added.hosts) < set(wanted.hosts):
        click.echo(f"lab {wanted.name} has got {added}")
    else:
        click.echo(f"lab {wanted.name} is up: {', '.join(added.hosts)}")
        if wanted.pool is not None:
            above = Path(*Path(wanted.pool).parts[:2])
            click.echo(
                f"note: the pool lies below {above}, so hosts see {above} as it was just now",
                err=True,
            )


@lab.group()
def add() -> None:
    """Add a host or volumes to a lab that is up; they are part of it from then on."""


@add.command("host")
@click.argument("host")
@name_option
def add_host(host: str, name: str) -> None:
    """Add HOST and switch it on."""
    Lab(name).add(Growth(hosts=(host,)))
    click.echo(f"lab {name} has got host {host}")


@add.command("volume")
@click.argument("volumes", nargs=-1, required=True, metavar=VOLUME_FORM)
@name_option
def add_volume(volumes: tuple[str, ...], name: str) -> None:
    """Make LUNs with volumes, unmask them and mount them at their letters.

    For the first host unless one is named.
    """
    known = Lab(name)
    found = tuple(spec for text in volumes for spec in config.parse_volumes(text))
    known.add(Growth(volumes=found))
    click.echo(f"lab {name} has got {' '.join(f'{spec.letter}:' for spec in found)}")


@lab.group()
def remove() -> None:
    """Take a host or volumes out of a lab that is up."""


@remove.command("host")
@click.argument("host")
@name_option
def remove_host(host: str, name: str) -> None:
    """Switch HOST off in order and forget it; LUNs must not be unmasked to it."""
    Lab(name).remove_host(host)
    click.echo(f"lab {name} has no host {host} any more")


@remove.command("volume")
@click.argument("letters", nargs=-1, required=True, metavar="X:...", type=LETTER)
@click.option("--host", default=None, help="Whose volumes.  [default: the first host]")
@name_option
def remove_volume(letters: tuple[str, ...], host: str | None, name: str) -> None:
    """Dismount volumes and delete their LUNs with all that is on them.

    Refused while shadow copies stand on them.
    """
    Lab(name).remove_volumes(host, letters)
    click.echo(f"lab {name} has no {' '.join(f'{letter}:' for letter in letters)} any more")


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
    """List the labs of this machine, those that do not run among them."""
    found = all_labs()
    if as_json:
        emit_json(found)
        return
    emit_table(
        ("LAB", "STATE", "HOSTS", "VOLUMES"),
        [
            (one.name, one.state.value, " ".join(one.hosts), " ".join(one.volumes) or None)
            for one in found
        ],
    )


@lab.command()
@name_option
@json_option
def status(name: str, as_json: bool) -> None:
    """Show how a lab stands; with --json every process and its memory in bytes."""
    found = Lab(name).status()
    if as_json:
        emit_json(found)
        return
    click.echo(f"lab {found.name}: {found.state.value}, engine {found.engine}")
    click.echo(f"array: pid {found.array.pid or '-'}, pool {found.array.pool}")
    if found.shards:
        shards = ", ".join(f"{one.name} pid {one.pid or '-'}" for one in found.shards)
        click.echo(f"shards: {shards}")
    if found.processes:
        resident = size_text(sum(one.pss for one in found.processes))
        click.echo(f"processes: {len(found.processes)}, {resident} of memory")
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
