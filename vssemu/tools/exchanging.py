"""`vssemu array lun export-cow` and `import-cow`: snapshots as files of dm-snapshot's format."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from vssemu.api import array as api
from vssemu.lab.lab import Lab
from vssemu.tools.lab import name_option
from vssemu.tools.naming import LUN
from vssemu.tools.output import emit_json, json_option, size_text
from vssemu.vss.array import Exported, Imported, OpenFile
from vssemu.vss.errors import Fail, ObjectAlreadyExists
from vssemu.vss.identity import LunId

P = ParamSpec("P")
R = TypeVar("R", Exported, Imported)

_NEW: Final = ".new"
_CREATING: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

_EXISTING: Final = click.Path(exists=True, dir_okay=False, path_type=Path)

progress_option = click.option(
    "--progress", "shows_progress", is_flag=True, help="Show on stderr how far it is."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportFacts:
    """An export as `--json` shows it. origin: the file of it, if there is one. Bytes."""

    snapshot: str
    store: str
    origin: str | None
    chunk_size: int
    chunks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportFacts:
    """An import as `--json` shows it: the ids of two LUNs, hexadecimal digits."""

    origin: str
    snapshot: str
    view_sha256: str


@click.command("export-cow")
@click.argument("lun_id", metavar="SNAPSHOT", type=LUN)
@click.option("--store", required=True, type=click.Path(path_type=Path), help="A new file.")
@click.option(
    "--origin", type=click.Path(path_type=Path), help="A new file, for the origin that it fits."
)
@progress_option
@name_option
@json_option
def export_cow(
    lun_id: LunId,
    store: Path,
    origin: Path | None,
    shows_progress: bool,
    name: str,
    as_json: bool,
) -> None:
    """Write the snapshot SNAPSHOT as an exception store that a kernel can activate.

    That is dm-snapshot's persistent format. The store stands alone: it fits the bytes that the
    origin has at that moment. With --origin they are written too, and hosts may go on writing;
    without, no host may have the origin attached.
    """
    with ExitStack() as stack:
        client = stack.enter_context(Lab(name).array())
        files = [
            None if path is None else stack.enter_context(_new_file(path))
            for path in (store, origin)
        ]
        assert files[0] is not None
        stream = client.stream(api.export_cow, lun_id, files[0], files[1])
        found = _last(stack.enter_context(stream), f"export {lun_id}", shows_progress)
    assert found.chunk_size is not None
    assert found.chunks is not None
    if as_json:
        emit_json(
            ExportFacts(
                snapshot=lun_id,
                store=str(store),
                origin=None if origin is None else str(origin),
                chunk_size=found.chunk_size,
                chunks=found.chunks,
            )
        )
    else:
        chunks = f"{found.chunks} chunks of {size_text(found.chunk_size)}"
        click.echo(f"{lun_id} is exported: {chunks} in {store}")


@click.command("import-cow")
@click.option("--origin", required=True, type=_EXISTING, help="An image, or a block device.")
@click.option("--store", required=True, type=_EXISTING, help="The store that belongs to it.")
@progress_option
@name_option
@json_option
def import_cow(origin: Path, store: Path, shows_progress: bool, name: str, as_json: bool) -> None:
    """Make a LUN of an image, and a snapshot of it out of its exception store.

    The store is in dm-snapshot's persistent format, as a kernel or export-cow wrote it. Both
    files are copied; no host sees the two LUNs yet. Prints their ids.
    """
    with ExitStack() as stack:
        client = stack.enter_context(Lab(name).array())
        files = [stack.enter_context(_readable(path)) for path in (origin, store)]
        stream = client.stream(api.import_cow, files[0], files[1])
        found = _last(stack.enter_context(stream), f"import {origin}", shows_progress)
    assert found.origin is not None
    assert found.snapshot is not None
    assert found.view_sha256 is not None
    facts = ImportFacts(
        origin=found.origin, snapshot=found.snapshot, view_sha256=found.view_sha256
    )
    if as_json:
        emit_json(facts)
    else:
        click.echo(f"origin    {facts.origin}")
        click.echo(f"snapshot  {facts.snapshot}")
        click.echo(f"sha256 of its view  {facts.view_sha256}")


def _last(stream: Iterator[R], what: str, shows_progress: bool) -> R:
    """Return the last element; show meanwhile how far the work is, if that is wanted."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True)
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
    bar.disable = not shows_progress
    last: R | None = None
    with bar:
        task = bar.add_task(what, total=None)
        for last in stream:
            bar.update(task, completed=last.done, total=last.total or None)
    if last is None:
        raise Fail(f"{what}: the array gave no answer", hint="see the array's log")
    return last


@contextmanager
def _new_file(path: Path) -> Iterator[OpenFile]:
    """Give a file that gets its name when the block ends well. Raises OSError."""
    if os.path.lexists(path):
        raise ObjectAlreadyExists(
            f"{path} is there already", item=str(path), hint="give the name of a new file"
        )
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{_NEW}")
    try:
        descriptor = os.open(unfinished, _CREATING, 0o600)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        yield OpenFile(descriptor=descriptor, name=str(path))
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def _readable(path: Path) -> Iterator[OpenFile]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield OpenFile(descriptor=descriptor, name=str(path))
    finally:
        os.close(descriptor)
