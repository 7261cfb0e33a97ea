"""Namespaces: leave one's own, enter another's, turn the root tree, name the host.

Owns unshare, setns, pivot_root, the host name, the loopback interface, and pidfds as
tickets to namespaces. Refuses to compose them into a container.

unshare(NEWPID) and setns(NEWPID) hold for children only; NEWNS and NEWUSER demand a
process with one thread.

Source: namespaces(7), unshare(2), setns(2) (pidfd: kernel 5.8), pivot_root(2), netdevice(7).
"""

from __future__ import annotations

import ctypes
import enum
import os
import signal as signals
import socket
from pathlib import Path
from typing import Final

from vssemu.linux import libc

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1


class Namespace(enum.IntFlag):
    """CLONE_NEW*."""

    MOUNT = 0x00020000
    CGROUP = 0x02000000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000


class _InterfaceRequest(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 16),
        ("flags", ctypes.c_short),
        ("padding", ctypes.c_char * 22),
    )


def unshare(namespaces: Namespace) -> None:
    """Put this process into new namespaces of the given kinds.

    Needs CAP_SYS_ADMIN. Raises OSError: EPERM, EINVAL, ENOSPC (too many of them).
    """
    libc.unshare(namespaces)


def enter(fd: int, namespaces: Namespace) -> None:
    """Put this process into namespaces of another.

    fd: a pidfd, of which the given kinds are entered together (kernel 5.8), or a descriptor
    of one file below /proc/PID/ns. Entering the mount namespace changes root and working
    directory too. Needs CAP_SYS_ADMIN. Raises OSError: EPERM, EINVAL, ESRCH.
    """
    libc.setns(fd, namespaces)


def pivot_root(new_root: str | Path, put_old: str | Path) -> None:
    """Make a mount point the root of this mount namespace and put the old root below it.

    put_old: at or below new_root; the same for both ("." and ".") stacks the old root on
    the new, from where unmount(DETACH) removes it.
    Raises OSError naming new_root: EINVAL when it is no mount point or shared, EBUSY.
    """
    new = ctypes.create_string_buffer(os.fsencode(new_root))
    old = ctypes.create_string_buffer(os.fsencode(put_old))
    addresses = ctypes.addressof(new), ctypes.addressof(old)
    libc.syscall("pivot_root", *addresses, filename=str(new_root))


def set_host_name(name: str) -> None:
    """Set the name of this UTS namespace; at most 64 bytes. Raises OSError: EPERM, EINVAL."""
    try:
        socket.sethostname(name)
    except OSError as error:
        error.filename = name
        raise


def interface_up(name: str = "lo") -> None:
    """Bring a network interface of this network namespace up.

    Needs CAP_NET_ADMIN. Raises OSError naming the interface: ENODEV, EPERM.
    """
    request = _InterfaceRequest(name=name.encode("ascii"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        libc.ioctl(control.fileno(), _SIOCGIFFLAGS, request, filename=name)
        request.flags |= _IFF_UP
        libc.ioctl(control.fileno(), _SIOCSIFFLAGS, request, filename=name)


def pidfd_open(pid: int) -> int:
    """Return a pidfd, closed on exec. Raises ProcessLookupError.

    A number that may have been used again wants `processes.open_pidfd`.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        error.filename = f"/proc/{pid}"
        raise


def pidfd_send_signal(fd: int, signal: signals.Signals) -> None:
    """Send a signal to the process of a pidfd. Raises ProcessLookupError, PermissionError."""
    signals.pidfd_send_signal(fd, signal)
