"""Capabilities and the few process attributes that belong to their surroundings.

Owns capget, capset, the bounding and the ambient set, and of prctl the parent-death
signal. Refuses to say which capabilities anybody needs.

All of it is a matter of the calling *thread*: call it before threads start.

Source: capabilities(7), capget(2), prctl(2); include/uapi/linux/capability.h.
"""

from __future__ import annotations

import ctypes
import enum
import signal as signals
from collections.abc import Iterable
from ctypes import c_int, c_uint32
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vssemu.linux import libc

_VERSION_3: Final = 0x20080522
_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_CAP_AMBIENT: Final = 47
_AMBIENT_LOWER: Final = 3
_LAST: Final = Path("/proc/sys/kernel/cap_last_cap")


class Capability(enum.IntEnum):
    """CAP_*; a newer kernel may have more."""

    CHOWN = 0
    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    FOWNER = 3
    FSETID = 4
    KILL = 5
    SETGID = 6
    SETUID = 7
    SETPCAP = 8
    LINUX_IMMUTABLE = 9
    NET_BIND_SERVICE = 10
    NET_BROADCAST = 11
    NET_ADMIN = 12
    NET_RAW = 13
    IPC_LOCK = 14
    IPC_OWNER = 15
    SYS_MODULE = 16
    SYS_RAWIO = 17
    SYS_CHROOT = 18
    SYS_PTRACE = 19
    SYS_PACCT = 20
    SYS_ADMIN = 21
    SYS_BOOT = 22
    SYS_NICE = 23
    SYS_RESOURCE = 24
    SYS_TIME = 25
    SYS_TTY_CONFIG = 26
    MKNOD = 27
    LEASE = 28
    AUDIT_WRITE = 29
    AUDIT_CONTROL = 30
    SETFCAP = 31
    MAC_OVERRIDE = 32
    MAC_ADMIN = 33
    SYSLOG = 34
    WAKE_ALARM = 35
    BLOCK_SUSPEND = 36
    AUDIT_READ = 37
    PERFMON = 38
    BPF = 39
    CHECKPOINT_RESTORE = 40


class _Header(ctypes.Structure):
    _fields_ = (("version", c_uint32), ("pid", c_int))


class _Data(ctypes.Structure):
    # Two triples: the low 32 capabilities, then the high ones.
    _fields_ = (("words", c_uint32 * 6),)


@dataclass(frozen=True, kw_only=True, slots=True)
class CapabilitySets:
    """The three sets of this thread, each by number: a kernel may know more than we name."""

    effective: frozenset[int]
    permitted: frozenset[int]
    inheritable: frozenset[int]


def last_capability() -> int:
    """Return the highest number that this kernel knows. Raises OSError without /proc."""
    return int(_LAST.read_text(encoding="ascii"))


def capability_sets() -> CapabilitySets:
    """Return the capabilities of this thread. Raises OSError."""
    words = _get().words
    effective, permitted, inheritable = (words[n] | words[n + 3] << 32 for n in range(3))
    return CapabilitySets(
        effective=_numbers(effective),
        permitted=_numbers(permitted),
        inheritable=_numbers(inheritable),
    )


def bounding_set() -> frozenset[int]:
    """Return what this thread and its children can ever have. Raises OSError."""
    return frozenset(
        number
        for number in range(last_capability() + 1)
        if libc.prctl(_PR_CAPBSET_READ, number) == 1
    )


def drop(capabilities: Iterable[Capability]) -> None:
    """Take capabilities from this thread and from all that it starts, for good.

    They leave the bounding, ambient, inheritable, permitted and effective sets; not even a
    set-user-ID program brings them back. Those that the kernel does not know, or that are
    gone already, are passed over. Needs CAP_SETPCAP. Raises OSError: EPERM.
    """
    last = last_capability()
    wanted = [capability for capability in capabilities if capability <= last]
    for capability in wanted:
        if libc.prctl(_PR_CAPBSET_READ, capability) == 1:
            libc.prctl(_PR_CAPBSET_DROP, capability)
        libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_LOWER, capability)
    data = _get()
    for capability in wanted:
        for word in range(3):
            data.words[word + 3 * (capability // 32)] &= ~(1 << capability % 32)
    header = _Header(version=_VERSION_3, pid=0)
    libc.syscall("capset", ctypes.addressof(header), ctypes.addressof(data))


def set_parent_death_signal(signal: signals.Signals) -> None:
    """Have this process get a signal when the *thread* that started it ends.

    It survives exec (not of a set-user-ID program), not fork. A parent that ended before
    the call sends nothing: compare `os.getppid()` afterwards. Raises OSError: EINVAL.
    """
    libc.prctl(_PR_SET_PDEATHSIG, signal)


def _get() -> _Data:
    header = _Header(version=_VERSION_3, pid=0)
    data = _Data()
    libc.syscall("capget", ctypes.addressof(header), ctypes.addressof(data))
    return data


def _numbers(mask: int) -> frozenset[int]:
    return frozenset(number for number in range(mask.bit_length()) if mask >> number & 1)
