"""The root tree of a namespace host: what of the machine a host sees, and how it is built.

A tree is built on a tmpfs out of binds of the machine's directories, *around* what a host
must not see. Nothing hidden lies under a mount that root inside could take away: hidden
places are simply not there.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vssemu.daemons.foreign import let_go
from vssemu.linux import devices, mount

CHARACTER_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
    "fuse": (10, 229),
    "loop-control": (10, 237),
}
"""Name -> (major, minor) of the nodes that every host has."""

_PRIVATE = ("dev", "proc", "sys", "run", "mnt")
"""Top-level directories of which each host has its own."""

OWN_OF_HOSTS = (*(Path("/") / name for name in _PRIVATE), Path("/var/lib/vssemu"))
"""Places of the machine that no host sees."""


def unseen_programs() -> list[Path]:
    """Return what of this package and its interpreter lies where hosts do not see it."""
    places = {Path(__file__).resolve(), Path(sys.executable).absolute()}
    return sorted(p for p in places if any(p.is_relative_to(own) for own in OWN_OF_HOSTS))


class Step(Protocol):
    """One change of the tree under construction."""

    def describe(self) -> str:
        """Return one line that says what is changed."""
        ...

    def execute(self, tree: Path) -> None:
        """Change the tree. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Directory:
    """An own, empty directory with the mode of the machine's."""

    path: str
    mode: int

    def describe(self) -> str:
        """Return one line."""
        return f"directory /{self.path}"

    def execute(self, tree: Path) -> None:
        """Make it."""
        target = tree / self.path
        target.mkdir(exist_ok=True)
        target.chmod(self.mode)


@dataclass(frozen=True, slots=True)
class Link:
    """A copy of a symbolic link."""

    path: str
    target: str

    def describe(self) -> str:
        """Return one line."""
        return f"link /{self.path} -> {self.target}"

    def execute(self, tree: Path) -> None:
        """Make it."""
        (tree / self.path).symlink_to(self.target)


@dataclass(frozen=True, slots=True)
class Bind:
    """The machine's directory or file, with what is mounted below it."""

    path: str
    is_directory: bool

    def describe(self) -> str:
        """Return one line."""
        return f"bind /{self.path}"

    def execute(self, tree: Path) -> None:
        """Make the mount point and bind; what is gone meanwhile does not appear."""
        target = tree / self.path
        if self.is_directory:
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        try:
            mount.bind(Path("/") / self.path, target, recursive=True)
        except FileNotFoundError:
            # Somebody removed it since it was seen, as happens in /tmp all the time.
            if self.is_directory:
                target.rmdir()
            else:
                target.unlink()


def plan(hidden: frozenset[Path], machine: Path = Path("/")) -> list[Step]:
    """Return the steps that rebuild the machine's tree without `hidden` and the private ones.

    hidden: absolute paths; what is at or below them does not appear.
    """
    steps: list[Step] = []
    parts = frozenset(tuple(p.parts[1:]) for p in hidden)
    private = frozenset((name,) for name in _PRIVATE)
    for step in _walk(machine, (), parts | private):
        steps.append(step)  # noqa: PERF402  (a generator of steps reads better than nesting)
    return steps


def _walk(
    machine: Path, at: tuple[str, ...], hidden: frozenset[tuple[str, ...]]
) -> Iterator[Step]:
    with os.scandir(machine.joinpath(*at)) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            here = (*at, entry.name)
            path = "/".join(here)
            if here in hidden:
                continue
            if entry.is_symlink():
                # One that is gone by now is passed over.
                with contextlib.suppress(FileNotFoundError):
                    yield Link(path, str(Path(entry.path).readlink()))
            elif any(h[: len(here)] == here for h in hidden):
                yield Directory(path, entry.stat().st_mode & 0o7777)
                yield from _walk(machine, here, hidden)
            elif entry.is_dir() or entry.is_file():
                yield Bind(path, entry.is_dir())


def build(tree: Path, hidden: frozenset[Path], *, state: Path, outside: Path) -> None:
    """Build a host's tree on the directory `tree`, which becomes a tmpfs.

    state: becomes /var/lib/vssemu. outside: becomes /run/vssemu/outside. /proc is left to the
    process that is inside the new pid namespace. Raises OSError.
    """
    mount.mount("vssemu-root", tree, "tmpfs", options="mode=755")
    for step in plan(hidden):
        step.execute(tree)
    let_go(tree, keep=[tree.joinpath(*Path(sys.prefix).parts[1:])])
    for name in _PRIVATE:
        (tree / name).mkdir(exist_ok=True)
    _mount_private(tree)
    own_state = tree / "var/lib/vssemu"
    own_state.mkdir(parents=True, exist_ok=True)
    mount.bind(state, own_state)
    own_outside = tree / "run/vssemu/outside"
    own_outside.mkdir(parents=True)
    mount.bind(outside, own_outside)


def _mount_private(tree: Path) -> None:
    for name, mode in (("run", "755"), ("mnt", "755"), ("dev", "755")):
        mount.mount(f"vssemu-{name}", tree / name, "tmpfs", options=f"mode={mode}")
    mount.mount("sysfs", tree / "sys", "sysfs", mount.MountFlag.READ_ONLY)
    (tree / "run/lock").mkdir(mode=0o1777)
    dev = tree / "dev"
    descriptor = os.open(dev, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name, (major, minor) in CHARACTER_DEVICES.items():
            devices.make_node(
                descriptor, name, devices.DeviceKind.CHARACTER, major, minor, mode=0o666
            )
    finally:
        os.close(descriptor)
    for directory in ("pts", "shm", "vss"):
        (dev / directory).mkdir()
    mount.mount("devpts", dev / "pts", "devpts", options="newinstance,ptmxmode=0666,mode=620")
    mount.mount("shm", dev / "shm", "tmpfs", options="mode=1777")
    for name, target in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        (dev / name).symlink_to(target)
