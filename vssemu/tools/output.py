"""What commands print: results to stdout, as a table or JSON; failures to stderr, one line."""

from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from vssemu.rpc.errors import RpcError
from vssemu.vss.errors import VssError

_PIPE_COLUMNS = 500

FAILED = 1
"""Exit status of an operation that failed; a wrong command line is 2 (click's own)."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")


def emit_json(value: object) -> None:
    """Print a value (dataclasses, lists, GUIDs, ...) as JSON, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as a table; cells are shown by `str`, None as a dash."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row))
    console = Console()
    # Columns of a pipe are nobody's business: a script wants one row a line.
    Console(width=None if console.is_terminal else _PIPE_COLUMNS).print(table)


def size_text(size: int) -> str:
    """Return a size in bytes as people read it, in binary units with one digit."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def report(error: BaseException) -> None:
    """Print the one line of a failure to stderr."""
    click.echo(describe(error), err=True)


def describe(error: BaseException) -> str:
    """Return the one line that a failure is to a user."""
    if isinstance(error, VssError):
        return str(error).replace("\n", " ")
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    if isinstance(error, RpcError):
        return f"the service broke off: {error}"
    return f"{type(error).__name__}: {error}"


class ReportingGroup(click.Group):
    """A group of commands whose failures become one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (VssError, OSError, RpcError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            report(error)
            ctx.exit(FAILED)
