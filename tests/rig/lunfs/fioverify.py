"""fio that verifies what it wrote, and trims, on a device or a file, for so many seconds."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MIB: Final = 1 << 20
_FIO: Final = {
    "direct": 1,
    "ioengine": "libaio",
    "bsrange": "4k-64k",
    "blockalign": "4k",
    "time_based": 1,
    "verify": "crc32c",
    "verify_fatal": 1,
    "verify_state_save": 0,
    "output-format": "json",
}
_WRITES: Final = {"name": "writes", "rw": "randrw", "verify_backlog": 256}
_TRIMS: Final = {"name": "trims", "rw": "randtrimwrite", "verify_backlog": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a run did: requests of each kind, reads for verification among them."""

    reads: int
    writes: int
    trims: int


class Verifying:
    """A run; three quarters of the size are written and verified, one quarter trimmed as well."""

    def __init__(self, path: Path, *, size: int, seconds: float, depth: int, seed: int) -> None:
        part = size // MIB // 4 * MIB
        common = _FIO | {
            "filename": path,
            "runtime": seconds,
            "iodepth": depth,
            "randseed": seed,
        }
        argv = ["fio", *_options(common)]
        argv += _options(_WRITES | {"size": size - part})
        argv += _options(_TRIMS | {"offset": size - part, "size": part})
        self._process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    def result(self, seconds: float) -> Done:
        """Wait for the end and return what was done; a wrong block or an error is a failure."""
        out, errors = self._process.communicate(timeout=seconds)
        assert self._process.returncode == 0, (self._process.returncode, errors[-2000:])
        assert not errors, errors[-2000:]
        jobs = json.loads(out)["jobs"]
        assert [job["error"] for job in jobs] == [0] * len(jobs), out[-2000:]
        return Done(
            **{f"{kind}s": sum(job[kind]["total_ios"] for job in jobs)
               for kind in ("read", "write", "trim")}
        )  # fmt: skip

    def kill(self) -> None:
        if not self.is_over:
            self._process.kill()
        self._process.communicate()


@contextmanager
def verifying(
    path: Path, *, size: int, seconds: float, depth: int = 16, seed: int = 1
) -> Iterator[Verifying]:
    """Run fio on a device or file; it is killed at the end of the block if it still runs."""
    run = Verifying(path, size=size, seconds=seconds, depth=depth, seed=seed)
    try:
        yield run
    finally:
        run.kill()


def _options(options: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]
