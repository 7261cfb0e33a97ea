"""A program that holds volumes and then does as it is told; run by test_host_hold."""

import sys
from pathlib import Path

import trio

from vssemu.host.hold import Target, hold
from vssemu.linux.blockdev import DeviceNumber


async def main(*arguments: str) -> None:
    guard, limit, directory, minor = arguments
    target = Target(
        volume="v", directory=Path(directory), device=DeviceNumber(major=7, minor=int(minor))
    )
    async with (
        trio.open_nursery() as tasks,
        hold([target], float(limit), guard=Path(guard), tasks=tasks),
    ):
        print("held", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
