"""A devicefs with a small service of shadow copies in the same process, run by the rig.

Reads commands from a socket, one JSON object a line, and writes events to it:

    {"list": [...DeviceObject...], "revision": 3}      what `Copies.lists` yields next
    {"fail": 5, "reason": "..."} / {"mend": 5}         `surface(5)` raises / mounts again
    {"hold": 5} / {"let": 5}                           `surface(5)` waits / goes on
 -> {"settled": 3}, {"surface": 5}, {"mounted": 5}
    {"ping": 7} -> {"pong": 7}
"""

import argparse
import contextlib
import errno
import json
import os
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import trio

from vssemu.linux import mount
from vssemu_fuse import names, serving
from vssemu_fuse.copies import CopyList, DeviceObject

EXT4_ROOT = 2


class LocalCopies:
    """Mounts trees as the service does: through a descriptor of the bare directory."""

    def __init__(self, stream: trio.SocketStream, mountpoint: Path) -> None:
        self._stream = stream
        self._mountpoint = mountpoint
        self._send, self._receive = trio.open_memory_channel[CopyList](100)
        self._devices: dict[int, tuple[int, int]] = {}
        self._removed: set[int] = set()
        self._failures: dict[int, str] = {}
        self._held: dict[int, trio.Event] = defaultdict(_set_event)
        self._lock = trio.Lock()

    async def lists(self) -> AsyncGenerator[CopyList, None]:
        async for each in self._receive:
            yield each

    async def settled(self, revision: int) -> None:
        for number in self._removed:
            path = self._mountpoint / "Device" / names.copy_name(number)
            await trio.to_thread.run_sync(unmount_tree, path)
        self._removed.clear()
        await self._tell(settled=revision)

    async def surface(self, number: int) -> None:
        await self._tell(surface=number)
        await self._held[number].wait()
        if number not in self._devices:
            raise OSError(errno.ENOENT, f"copy {number} was removed")
        if number in self._failures:
            raise OSError(5, self._failures[number])
        minor = self._devices[number][1]
        await trio.to_thread.run_sync(mount_tree, self._mountpoint, number, minor)
        await self._tell(mounted=number)

    async def serve_commands(self) -> None:
        buffer = b""
        async for chunk in self._stream:
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                await self._obey(json.loads(line))

    async def _obey(self, command: dict[str, Any]) -> None:
        if "list" in command:
            copies = [DeviceObject(**each) for each in command["list"]]
            devices = {each.number: (each.raw_major, each.raw_minor) for each in copies}
            self._removed |= {
                number for number, device in self._devices.items() if devices.get(number) != device
            }
            self._devices = devices
            latest = CopyList(revision=command["revision"], server_pid=os.getpid(), copies=copies)
            await self._send.send(latest)
        elif "fail" in command:
            self._failures[command["fail"]] = command["reason"]
        elif "mend" in command:
            del self._failures[command["mend"]]
        elif "hold" in command:
            self._held[command["hold"]] = trio.Event()
        elif "let" in command:
            self._held[command["let"]].set()
        elif "ping" in command:
            await self._tell(pong=command["ping"])

    async def _tell(self, **event: int) -> None:
        async with self._lock:
            with contextlib.suppress(trio.BrokenResourceError):
                await self._stream.send_all(json.dumps(event).encode() + b"\n")


def _set_event() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


def mount_tree(mountpoint: Path, number: int, minor: int) -> None:
    """Attach the ext4 of /dev/loop<minor> to the directory of a copy unless it is there."""
    path = mountpoint / "Device" / names.copy_name(number)
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Says that the directory is open, and whether it is the bare one.
        if os.fstat(directory).st_ino == EXT4_ROOT:
            return
        mounted = mount.detached_mount("ext4", f"/dev/loop{minor}", read_only=True)
        try:
            mount.attach(mounted, directory)
        finally:
            os.close(mounted)
    finally:
        os.close(directory)


def unmount_tree(path: Path) -> None:
    """Unmount the tree of a removed copy, if it is still there."""
    try:
        mount.unmount(path, mount.UnmountFlag.DETACH)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.EINVAL}:
            raise


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mountpoint", type=Path, required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--gid", type=int, required=True)
    parser.add_argument("--limit", type=float, default=10.0)
    arguments = parser.parse_args()
    raw = socket.socket(fileno=arguments.control)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
    copies = LocalCopies(stream, arguments.mountpoint)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(copies.serve_commands)
        nursery.start_soon(serving.cancel_on_signal, nursery.cancel_scope)
        await serving.serve(
            arguments.mountpoint,
            copies,
            operators_gid=arguments.gid,
            surface_limit=arguments.limit,
        )
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
