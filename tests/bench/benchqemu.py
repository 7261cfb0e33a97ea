"""QEMU's storage daemon, which benches compare with: exports over FUSE, under loop devices."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.rig.array.convergingrig import bound
from vssemu.linux import loop

PROGRAM = "qemu-storage-daemon"
_END_SECONDS = 10.0


def is_there() -> bool:
    """Tell whether the program is installed."""
    return shutil.which(PROGRAM) is not None


@contextmanager
def exported(place: Path, *images: Path, copying: bool = False) -> Iterator[Sequence[Path]]:
    """Export images from one daemon during the block; gives a loop device over each.

    place: a directory that is made and removed, for exports and stores. copying: the old data
    of each image goes to a sparse store of its size, by the filter copy-before-write.
    """
    place.mkdir()
    arguments = []
    for number, image in enumerate(images):
        export = place / f"export{number}"
        export.touch()
        arguments += ["--blockdev", _file(f"image{number}", image)]
        node = f"image{number}"
        if copying:
            store = place / f"store{number}"
            with store.open("wb") as file:
                file.truncate(image.stat().st_size)
            arguments += ["--blockdev", _file(f"store{number}", store)]
            node = f"copying{number}"
            filtering = f"copy-before-write,node-name={node},file=image{number}"
            arguments += ["--blockdev", f"{filtering},target=store{number}"]
        what = f"fuse,id=export{number},node-name={node},mountpoint={export},writable=on"
        arguments += ["--export", what]
    pid = place / "pid"
    subprocess.run([PROGRAM, "--daemonize", "--pidfile", str(pid), *arguments], check=True)
    try:
        with contextlib.ExitStack() as stack:
            numbers = [
                stack.enter_context(bound(place / f"export{number}"))
                for number in range(len(images))
            ]
            yield [loop.node(number) for number in numbers]
    finally:
        _end(int(pid.read_text()))
        shutil.rmtree(place)


def _file(name: str, path: Path) -> str:
    return f"file,node-name={name},filename={path},cache.direct=on"


def _end(process: int) -> None:
    os.kill(process, 15)
    deadline = time.monotonic() + _END_SECONDS
    while os.path.exists(f"/proc/{process}"):
        assert time.monotonic() < deadline, f"{PROGRAM} {process} does not end"
        time.sleep(0.05)
