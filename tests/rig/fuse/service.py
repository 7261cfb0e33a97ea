"""A small VSS service for the rig: io.vssemu.DeviceObjects on a socket, real mounts.

A process of its own, for a service must not share one with devicefs: its threads walk the
file system that devicefs serves, and a killed process cannot die while a thread of it waits
for an answer from itself.

Reads commands from an inherited socket, one JSON object a line, and writes events to it:

    {"list": [...DeviceObject...], "revision": 3}      the list from now on
    {"fail": 5, "reason": "..."} / {"mend": 5}         `surface(5)` raises / mounts again
    {"hold": 5} / {"let": 5}                           `surface(5)` waits / goes on
    {"pin": 5}                                         open copy 5's directory, and keep it
    {"ping": 7} -> {"pong": 7}
 -> {"settled": 3}, {"surface": 5}, {"mounted": 5}
"""

import argparse
import contextlib
import errno
import json
import os
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from vssemu.api.device_objects import CopyList, DeviceObject, device_objects
from vssemu.api.errors import encode_error
from vssemu.linux import mount
from vssemu.rpc.caller import Caller
from vssemu.rpc.server import serve_unix
from vssemu.vss.errors import ObjectNotFound
from vssemu_fuse.devicefs import names

EXT4_ROOT = 2


class DeviceObjects:
    """The service's half of the protocol: mounts trees, unmounts those of removed copies."""

    def __init__(self, mountpoint: Path, report: Callable[..., Awaitable[None]]) -> None:
        self._mountpoint = mountpoint
        self._report = report
        self._list: CopyList | None = None
        self._changed = trio.Event()
        self._devices: dict[int, int] = {}
        self._removed: set[int] = set()
        self._pins: list[int] = []
        self._failures: dict[int, str] = {}
        self._held: dict[int, trio.Event] = defaultdict(_set_event)

    async def watch(self, caller: Caller, reply: Callable[[CopyList], Awaitable[None]]) -> None:
        while True:
            changed = self._changed
            if self._list is not None:
                await reply(self._list)
            await changed.wait()

    async def settled(self, caller: Caller, revision: int) -> None:
        for number in self._removed:
            await trio.to_thread.run_sync(unmount_tree, self._directory(number))
        self._removed.clear()
        await self._report(settled=revision)

    async def surface(self, caller: Caller, number: int) -> None:
        await self._report(surface=number)
        await self._held[number].wait()
        if number not in self._devices:
            raise ObjectNotFound(f"copy {number} was removed")
        if number in self._failures:
            raise ObjectNotFound(self._failures[number])
        try:
            await trio.to_thread.run_sync(
                mount_tree, self._directory(number), self._devices[number]
            )
        except OSError as error:
            raise ObjectNotFound(str(error)) from error
        await self._report(mounted=number)

    async def obey(self, command: dict[str, Any]) -> None:
        if "list" in command:
            self._take([DeviceObject(**each) for each in command["list"]], command["revision"])
        elif "fail" in command:
            self._failures[command["fail"]] = command["reason"]
        elif "mend" in command:
            del self._failures[command["mend"]]
        elif "hold" in command:
            self._held[command["hold"]] = trio.Event()
        elif "let" in command:
            self._held[command["let"]].set()
        elif "pin" in command:
            await trio.to_thread.run_sync(self._pin, self._directory(command["pin"]))
        elif "ping" in command:
            await self._report(pong=command["ping"])

    def _take(self, copies: list[DeviceObject], revision: int) -> None:
        devices = {each.number: each.raw_minor for each in copies}
        self._removed |= {
            number for number, minor in self._devices.items() if devices.get(number) != minor
        }
        self._devices = devices
        self._list = CopyList(revision=revision, server_pid=os.getpid(), copies=copies)
        self._changed.set()
        self._changed = trio.Event()

    def _pin(self, path: Path) -> None:
        self._pins.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        os.fstat(self._pins[-1])

    def _directory(self, number: int) -> Path:
        return self._mountpoint / "Device" / names.copy_name(number)


def mount_tree(path: Path, minor: int) -> None:
    """Attach the ext4 of /dev/loop<minor> to a copy's directory unless it is there."""
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
        # ENOTCONN: devicefs is dead, and the name was not one the kernel still knew.
        if error.errno not in {errno.ENOENT, errno.EINVAL, errno.ENOTCONN, errno.ESTALE}:
            raise


def _set_event() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mountpoint", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--control", type=int, required=True)
    arguments = parser.parse_args()
    control = socket.socket(fileno=arguments.control)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(control))
    turn = trio.Lock()

    async def report(**event: int) -> None:
        async with turn:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(json.dumps(event).encode() + b"\n")

    service = DeviceObjects(arguments.mountpoint, report)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(
                serve_unix, arguments.socket, {device_objects: service}, vendor="vssemu",
                product="rig", version="1", url="http://localhost", encode_error=encode_error,
            )
        )  # fmt: skip
        buffer = b""
        async for chunk in stream:
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                await service.obey(json.loads(line))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
