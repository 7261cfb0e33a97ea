"""Writers of a test, as processes on a host."""

import json
import os
import select
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from vssemu.linux import run
from vssemu.vss.errors import Fail
from vssemu.writers.base import Writer
from vssemu.writers.configuration import toml

END_SECONDS = 60.0
"""How long a writer may take to end in order; its own limit is shorter."""


class RunningWriter:
    """A writer that subscribed."""

    def __init__(self, child: run.Child, log: IO[bytes]) -> None:
        self._child = child
        self._log = log

    def is_running(self) -> bool:
        """Tell whether its process lives."""
        return self._child.poll() is None

    def log(self) -> str:
        """Return what it wrote to its error stream until now."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def stop(self) -> int:
        """End it in order and return its exit status; again is no error."""
        if self.is_running():
            self._child.terminate()
        return run.wait_or_kill(self._child, END_SECONDS)


@contextmanager
def start_writer(
    command: Callable[[Sequence[str]], list[str]],
    writer: str | type[Writer],
    config: Mapping[str, Any],
    *,
    seconds: float,
) -> Iterator[RunningWriter]:
    """Run a writer during the block. command: makes the command line that runs it on a host.

    Raises Fail with its last words when it does not subscribe in time.
    """
    target = writer if isinstance(writer, str) else f"{writer.__module__}:{writer.__qualname__}"
    ready, tell = os.pipe()
    table = os.memfd_create("writer.toml")
    with tempfile.TemporaryFile() as log:
        try:
            os.write(table, toml(config).encode())
            argv = [sys.executable, "-m", "vssemu.daemons.writer_runner", target]
            argv += ["--config", f"/proc/self/fd/{table}", "--ready-fd", str(tell)]
            child = run.spawn(
                command(argv),
                # The host imports what this process can import.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                pass_fds=[table, tell],
                stdout=log.fileno(),
                stderr=log.fileno(),
                process_group=0,
            )
        finally:
            os.close(table)
            os.close(tell)
        running = RunningWriter(child, log)
        try:
            is_told = select.select([ready], [], [], seconds)[0] and os.read(ready, 64)
            if not is_told:
                raise Fail(f"writer {target} did not subscribe: {_said(running.log())}")
            yield running
        finally:
            os.close(ready)
            running.stop()


def _said(log: str) -> str:
    """Return the last words of a writer: of a structured line, the error."""
    last = (log.splitlines() or ["it said nothing"])[-1]
    with suppress(ValueError, AttributeError):
        fields = json.loads(last)
        return str(fields.get("error") or fields.get("event") or last)
    return last
