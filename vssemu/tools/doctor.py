"""`vssemu doctor`: what this machine can and cannot do, and the mend."""

import contextlib
import grp
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from vssemu.lab import root
from vssemu.linux import aio, capabilities, cgroup, fuse, loop, reflink
from vssemu.linux.capabilities import Capability
from vssemu.service.access import OPERATORS
from vssemu.tools.output import FAILED, emit_json, emit_table, json_option

_PROGRAMS = {
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "fusermount3": "fuse3",
    "restic": "restic",
    "cabextract": "cabextract",
}
_AIO_DEPTH = 1024
"""Requests under way, beyond what a shard of the cow engine asks for."""
_NEEDED_PROGRAMS = frozenset({"mkfs.ext4", "mkfs.xfs", "fusermount3"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at. needed: a lab does not run without it."""

    what: str
    ok: bool
    fact: str
    mend: str = ""
    needed: bool = True


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Tell what this machine can and cannot do, and the mend.

    Exit status 1 when something that a lab needs is missing.
    """
    findings = [finding for look in _LOOKS for finding in look()]
    if as_json:
        emit_json(findings)
    else:
        emit_table(
            ("", "WHAT", "FOUND", "MEND"),
            [(_mark(f), f.what, f.fact, "" if f.ok else f.mend) for f in findings],
        )
    if any(f.needed and not f.ok for f in findings):
        sys.exit(FAILED)


def _mark(finding: Finding) -> str:
    if finding.ok:
        return "ok"
    return "MISSING" if finding.needed else "without"


def _mend_as_root(mend: str) -> str:
    """Return the mend; for others than root, who cannot tell, that root is to look."""
    return mend if os.geteuid() == 0 else "run it with sudo"


def _root() -> Iterator[Finding]:
    yield Finding(
        what="root",
        ok=os.geteuid() == 0,
        fact=f"user id {os.geteuid()}",
        mend="run it with sudo",
    )


def _kernel() -> Iterator[Finding]:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    yield Finding(
        what="kernel 5.8 or later",
        ok=numbers >= (5, 8),
        fact=release,
        mend="use a newer kernel",
    )
    known = Path("/proc/filesystems").read_text()
    for name in ("ext4", "xfs", "fuse"):
        if f"\t{name}\n" in known:
            fact = "known to the kernel"
        else:
            fact = "a module, loaded at the first mount" if _is_module(name) else ""
        yield Finding(
            what=f"file system {name}",
            ok=bool(fact),
            fact=fact or "unknown to the kernel",
            mend="use a kernel that has it",
        )


def _is_module(name: str) -> bool:
    """Tell whether this kernel has a module; mount(2) loads those of file systems."""
    index = Path("/lib/modules") / platform.release() / "modules.dep"
    with contextlib.suppress(OSError):
        lines = index.read_text().splitlines()
        return any(f"/{name}.ko" in line.partition(":")[0] for line in lines)
    return False


def _loop() -> Iterator[Finding]:
    try:
        number = loop.free_number()
    except OSError as error:
        mend = _mend_as_root("modprobe loop")
        yield Finding(what="loop devices", ok=False, fact=str(error.strerror), mend=mend)
        return
    yield Finding(what="loop devices", ok=True, fact=f"{loop.node(number)} is free")


def _control_groups() -> Iterator[Finding]:
    base = cgroup.find_cgroup2()
    ok = base is not None and os.access(base, os.W_OK)
    yield Finding(
        what="control groups, version 2",
        ok=ok,
        fact=f"{base}{'' if ok else ', not writable'}" if base else "not mounted",
        mend=_mend_as_root(
            f"mount -o remount,rw {base}" if base else "mount -t cgroup2 none /sys/fs/cgroup"
        ),
    )


def _fuse() -> Iterator[Finding]:
    yield Finding(
        what="/dev/fuse",
        ok=os.access("/dev/fuse", os.R_OK | os.W_OK),
        fact="usable" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "not there",
        mend="modprobe fuse",
    )
    yield _resends("devicefs survives kills")


def _resends(what: str) -> Finding:
    """Return whether the kernel sends a FUSE server's requests again to its successor."""
    try:
        survives, fact = fuse.kernel_resends(), ""
    except OSError as error:
        survives, fact = False, f": {error.strerror}"
    return Finding(
        what=what,
        ok=survives,
        fact=("yes" if survives else "no") + fact,
        mend=_mend_as_root("use kernel 6.9 or later"),
        needed=False,
    )


def _cow_engine() -> Iterator[Finding]:
    yield _resends("engine cow: lunfs survives kills")
    try:
        with aio.Context(_AIO_DEPTH):
            ok, fact = True, "room for more"
    except OSError as error:
        ok, fact = False, f"{error.strerror}"
    with contextlib.suppress(OSError, ValueError):
        used, most = (
            int(Path(f"/proc/sys/fs/aio-{name}").read_text()) for name in ("nr", "max-nr")
        )
        fact = f"{fact}, {used} of {most} requests taken"
    yield Finding(
        what="engine cow: native AIO",
        ok=ok,
        fact=fact,
        mend="sysctl fs.aio-max-nr=1048576",
        needed=False,
    )
    may = Capability.SYS_RESOURCE in capabilities.capability_sets().effective
    yield Finding(
        what="engine cow: priority when memory is short",
        ok=may,
        fact="PR_SET_IO_FLUSHER is allowed" if may else "PR_SET_IO_FLUSHER is not allowed",
        mend=_mend_as_root("give the capability CAP_SYS_RESOURCE"),
        needed=False,
    )


def _pool() -> Iterator[Finding]:
    place = next(p for p in (Path("/var/lib/vssemu"), Path("/var/lib")) if p.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix="vssemu-doctor-") as directory:
            clones = reflink.can_clone(Path(directory))
    except OSError as error:
        yield Finding(
            what="pool directory",
            ok=False,
            fact=f"{place}: {error.strerror}",
            mend=_mend_as_root(""),
        )
        return
    yield Finding(
        what="pool directory can clone files",
        ok=True,
        fact="yes" if clones else "no: the pool makes its own XFS image",
    )
    free = shutil.disk_usage(place).free
    yield Finding(
        what="4 GiB free for the pool",
        ok=free >= 4 << 30,
        fact=f"{free >> 30} GiB free below {place}",
        mend="free some, or name another directory with --pool",
    )


def _place() -> Iterator[Finding]:
    hidden = root.unseen_programs()
    yield Finding(
        what="hosts see this package",
        ok=not hidden,
        fact=f"{hidden[0]}: every host has its own" if hidden else str(Path(sys.prefix)),
        mend=f"move it out of {', '.join(map(str, root.OWN_OF_HOSTS))}",
    )


def _programs() -> Iterator[Finding]:
    for program, package in _PROGRAMS.items():
        found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        yield Finding(
            what=program,
            ok=found is not None,
            fact=found or "not found",
            mend=f"apt-get install {package}",
            needed=program in _NEEDED_PROGRAMS,
        )


def _operators() -> Iterator[Finding]:
    try:
        members = grp.getgrnam(OPERATORS).gr_mem
        fact, there = f"members: {', '.join(members) or 'none'}", True
    except KeyError:
        fact, there = "no such group: only root may be a requester", False
    yield Finding(
        what=f"group {OPERATORS}",
        ok=there,
        fact=fact,
        mend=f"groupadd --system {OPERATORS}",
        needed=False,
    )


_LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _root,
    _kernel,
    _loop,
    _control_groups,
    _fuse,
    _cow_engine,
    _pool,
    _place,
    _programs,
    _operators,
)
