"""lunfs that dies by SIGKILL at a moment of one's choice; the next one waits until it is let on.

    python dyingserver.py DIRECTORY <words of lunfs>

DIRECTORY/die    a number n: it dies at the n-th moment from now on, counted from 0, and leaves
DIRECTORY/wait   for its successor, which takes no request as long as the file is there, and
                 answers its control socket meanwhile.

Moments are: before requests are submitted to the pool, just after that, before the kernel
gets the answer to a change, just after that.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from vssemu.linux.aio import Context, Io
from vssemu_fuse.lunfs.__main__ import main
from vssemu_fuse.lunfs.fuse.request import Request
from vssemu_fuse.lunfs.fuse.serving import DataPath

DIE, WAIT = "die", "wait"


class Moments:
    """Counts them, and dies."""

    def __init__(self, directory: Path) -> None:
        self._die = directory / DIE
        self._wait = directory / WAIT
        self._count = 0

    def pass_one(self) -> None:
        if not self._die.exists():
            return
        if self._count == int(self._die.read_text()):
            self._wait.touch()
            self._die.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        self._count += 1

    def install(self) -> None:
        submit, written, done, serve = (
            Context.submit, Request._written, Request._done, DataPath.serve,
        )  # fmt: skip

        def submitting(context: Context, requests: Sequence[Io]) -> int:
            self.pass_one()
            taken = submit(context, requests)
            self.pass_one()
            return taken

        def answering_write(request: Request, result: Any) -> None:
            self.pass_one()
            written(request, result)
            self.pass_one()

        def answering_zeroing(request: Request, result: Any) -> None:
            self.pass_one()
            done(request, result)
            self.pass_one()

        async def serving(path: DataPath) -> None:
            while self._wait.exists():
                path.worker.turn()
                await trio.sleep(0.001)
            await serve(path)

        Context.submit = submitting  # type: ignore[method-assign, assignment]
        Request._written = answering_write  # type: ignore[method-assign, assignment]
        Request._done = answering_zeroing  # type: ignore[method-assign, assignment]
        DataPath.serve = serving  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    Moments(Path(sys.argv[1])).install()
    sys.exit(main(sys.argv[2:]))
