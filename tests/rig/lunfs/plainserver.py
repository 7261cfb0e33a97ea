"""A shard whose LUNs are the files of a directory, without snapshots: lunfs's data path alone.

    python plainserver.py --images DIR --number N --socket PATH --ready-fd N

Each file of DIR is served under its name; `look` takes over new files and sizes. It is what
tests and measurements of the FUSE side stand on, and what they compare the engine with.
"""

import argparse
import os
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import trio

from vssemu.daemons.logs import configure_logs
from vssemu.linux import fdstore
from vssemu.linux.readiness import tell_ready
from vssemu.rpc.caller import Caller
from vssemu.rpc.interface import Declared, Interface
from vssemu.rpc.server import serve_unix
from vssemu_fuse.lunfs.fuse.serving import DataPath, data_path, prepare_process
from vssemu_fuse.lunfs.io.disk import FileDisk

plain = Interface("io.vssemu.test.Plain", "A directory of images.")


@plain.method(returns="number", sends_descriptor=True)
def mount() -> int:
    """Return the shard's number, and a descriptor of its mount."""
    raise Declared


@plain.method(returns="names")
def look() -> list[str]:
    """Serve the files that are there now, with the sizes they have; return their names."""
    raise Declared


class Plain:
    """A file as a LUN."""

    def __init__(self, disk: FileDisk) -> None:
        self.disk = disk
        self.read = disk.read
        self.write = disk.write
        self.flush = disk.flush

    @property
    def size(self) -> int:
        return self.disk.size

    def zero(self, offset: int, length: int) -> Generator[Any, Any, None]:
        self.disk.zero(offset, length)
        yield from ()


class Images:
    """The directory, and the two calls."""

    def __init__(self, number: int, directory: Path, path: DataPath) -> None:
        self._number = number
        self._directory = directory
        self._path = path
        self.look_again()

    def look_again(self) -> list[str]:
        names = self._path.names
        found = sorted(file.name for file in self._directory.iterdir() if file.is_file())
        for name in found:
            node = names.get(name)
            if node is None:
                names.add(name, Plain(FileDisk.open(self._directory / name)))
            else:
                assert isinstance(node.view, Plain)
                node.view.disk.refresh()
                names.changed(name)
        return found

    async def mount(self, caller: Caller) -> tuple[int, int]:
        return self._number, os.dup(self._path.mounted)

    async def look(self, caller: Caller) -> list[str]:
        return self.look_again()


async def serve(options: argparse.Namespace) -> None:
    store, kept = fdstore.Store.of_starter(), fdstore.inherited()
    with data_path(store, kept, name=f"lunfs-{options.number}") as path:
        images = Images(options.number, options.images, path)
        async with trio.open_nursery() as nursery:
            if options.socket:
                await nursery.start(_control, options.socket, images)
            tell_ready(options.ready_fd)
            await path.serve()
            nursery.cancel_scope.cancel()


async def _control(where: Path | socket.socket, images: Images, *, task_status: Any) -> None:
    await serve_unix(
        where,
        {plain: images},
        vendor="vssemu",
        product="plainserver",
        version="0",
        url="",
        encode_error=lambda error: {"message": str(error)},
        mode=0o600,
        task_status=task_status,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--ready-fd", type=int)
    options = parser.parse_args()
    configure_logs()
    prepare_process()
    trio.run(serve, options)


if __name__ == "__main__":
    main()
