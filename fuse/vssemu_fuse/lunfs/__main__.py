"""The lunfs program: one shard of an array with the cow engine.

    python -m vssemu_fuse.lunfs --number N --socket PATH [--chunk-size BYTES]
        [--safety power|process] [--ready-fd N]

It runs outside the hosts, below a starter that keeps descriptors (the lab's supervisor; systemd
with FileDescriptorStoreMax=), and may be killed: the next one goes on with the mount, with what
was asked of it, and with its pool (kernel 6.9). Which pool that is arrayd tells it, once.
Exit status: 0 after SIGTERM or SIGINT; 1 when it could not run, or its connection was ended; 2
for a wrong command line.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import trio

from vssemu import logs
from vssemu.linux import fdstore
from vssemu.linux.readiness import tell_ready
from vssemu.stores.format import LARGEST_CHUNK, SMALLEST_CHUNK, check_chunk_size
from vssemu.vss.errors import VssError
from vssemu_fuse.lunfs.control.faults import FaultControl
from vssemu_fuse.lunfs.control.socket import Control, serve_control
from vssemu_fuse.lunfs.faults.instruments import Instruments
from vssemu_fuse.lunfs.fuse.serving import DataPath, data_path, prepare_process
from vssemu_fuse.lunfs.io.buffers import Scratch
from vssemu_fuse.lunfs.shard.chains import Chains
from vssemu_fuse.lunfs.shard.served import CHUNK_SIZE, Setting
from vssemu_fuse.lunfs.shard.shard import Shard

POOL: Final = "pool"

logger = logs.get_logger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options. Exits with 2 when the command line is wrong."""
    parser = argparse.ArgumentParser(prog="lunfs", description="A shard of vssemu's array.")
    parser.add_argument("--number", type=int, required=True, help="of the shard, from 0 on")
    parser.add_argument("--socket", type=Path, required=True, help="where arrayd finds it")
    parser.add_argument(
        "--chunk-size",
        type=_chunk_size,
        default=CHUNK_SIZE,
        help=f"bytes, {SMALLEST_CHUNK} to {LARGEST_CHUNK}, for chains that have none",
    )
    parser.add_argument(
        "--safety",
        choices=("power", "process"),
        default="power",
        help="what snapshots are to outlive: a loss of power, or the end of a process alone",
    )
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets READY when serving")
    return parser.parse_args(argv)


def _chunk_size(text: str) -> int:
    size = int(text)
    check_chunk_size(size)
    return size


def main(argv: Sequence[str] | None = None) -> int:
    """Run the shard until it is told to end; return the exit status."""
    options = parse_arguments(argv)
    logs.write_lines()
    prepare_process()
    status = 1
    try:
        status = trio.run(_run, options)
    except* (OSError, VssError) as errors:
        for error in _leaves(errors):
            logger.error("lunfs_failed", number=options.number, error=str(error))
    return status


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _run(options: argparse.Namespace) -> int:
    store, kept = fdstore.Store.of_starter(), fdstore.inherited()
    with data_path(store, kept, name=f"lunfs-{options.number}") as path:
        instruments = Instruments(path.names, path.worker, path.connection.make_room)
        setting = Setting(
            path.worker,
            Scratch(),
            instruments,
            chunk_size=options.chunk_size,
            power=options.safety == "power",
        )
        chains = Chains(options.number, path.names, setting)
        if (pool := kept.pop(POOL, None)) is not None:
            # Before anything is answered: what is asked for is in it.
            chains.serve(pool, None)

        def keep(descriptor: int) -> None:
            store.keep(POOL, descriptor)
            store.settle()

        control = Control(Shard(chains, path.turns.result), path.mounted, keep)
        faults = FaultControl(instruments, chains, path.worker, path.turns.result)
        return await _serve(options, path, control, faults)


async def _serve(
    options: argparse.Namespace, path: DataPath, control: Control, faults: FaultControl
) -> int:
    status = 1
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def end_by_signal() -> None:
                nonlocal status
                async for number in signals:
                    logger.info("ending", signal=signal.Signals(number).name)
                    status = 0
                    nursery.cancel_scope.cancel()

            nursery.start_soon(end_by_signal)
            await nursery.start(serve_control, options.socket, control, faults)
            tell_ready(options.ready_fd)
            await path.serve()
            nursery.cancel_scope.cancel()
    return status


if __name__ == "__main__":
    sys.exit(main())
