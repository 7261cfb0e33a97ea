"""The device fence: which devices the processes of a control group may open.

A BPF program that the kernel asks at every open and mknod of a device node, wherever the
node comes from. It confines root too: somebody with CAP_SYS_ADMIN can mount a devtmpfs
and find every node of the machine there, and still not open one.

The fence holds for the group and all below it. It is attached without flags, so that

- attaching again replaces the former program in one step, without a gap between;
- no group below can attach one of its own, let alone lift this one.

It can be taken off by whoever reaches the directory of the *fenced* group itself. So
confine processes in a group below it, which is then the root of their cgroup namespace,
and take CAP_DAC_READ_SEARCH from them: with it, open_by_handle_at reaches every group of
a mounted tree by its inode number (seen on kernel 6.18). Files that are open stay open
when a rule goes.

    for each rule:  compare kind, major, minor; all asked rights granted? -> 1
    at the end:     -> 0 (EPERM)

Source: bpf(2); include/uapi/linux/bpf.h (struct bpf_cgroup_dev_ctx), kernel/bpf/cgroup.c;
kernel 4.15 for the program type.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import struct
from collections.abc import Iterable
from ctypes import c_char, c_uint32, c_uint64
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vssemu.linux import libc
from vssemu.linux.devices import DeviceKind

_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
_PROG_DETACH: Final = 9
_PROG_QUERY: Final = 16
_TYPE_CGROUP_DEVICE: Final = 15
_ATTACH_CGROUP_DEVICE: Final = 6
_LICENSE: Final = b"GPL"
_NAME: Final = b"device_fence"
_LOG_SIZE: Final = 65536
_TRIES: Final = 5
_BITS: Final = {DeviceKind.BLOCK: 1, DeviceKind.CHARACTER: 2}

_INSTRUCTION: Final = struct.Struct("<BBhi")
_LOAD_WORD: Final = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE_NUMBER: Final = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_MOVE: Final = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
_AND_NUMBER: Final = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
_SHIFT_RIGHT: Final = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
_UNLESS_EQUAL: Final = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_EXIT: Final = 0x95  # BPF_JMP | BPF_EXIT
_RESULT, _CONTEXT, _KIND, _RIGHTS, _MAJOR, _MINOR, _SCRATCH = range(7)


class DeviceAccess(enum.IntFlag):
    """What may be done with a device (BPF_DEVCG_ACC_*)."""

    MKNOD = 1
    READ = 2
    WRITE = 4
    ALL = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceRule:
    """Grant access to devices. major, minor: None for any of them."""

    kind: DeviceKind
    major: int | None
    minor: int | None
    access: DeviceAccess = DeviceAccess.ALL


class _LoadAttributes(ctypes.Structure):
    _fields_ = (
        ("type", c_uint32),
        ("count", c_uint32),
        ("instructions", c_uint64),
        ("license", c_uint64),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log", c_uint64),
        ("kernel_version", c_uint32),
        ("flags", c_uint32),
        ("name", c_char * 16),
    )


class _AttachAttributes(ctypes.Structure):
    _fields_ = (
        ("target", c_uint32),
        ("program", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
    )


class _QueryAttributes(ctypes.Structure):
    _fields_ = (
        ("target", c_uint32),
        ("type", c_uint32),
        ("query_flags", c_uint32),
        ("attach_flags", c_uint32),
        ("ids", c_uint64),
        ("count", c_uint32),
        ("padding", c_uint32),
    )


class _Numbers(ctypes.Structure):
    _fields_ = (("values", c_uint32 * 64),)


def assemble(rules: Iterable[DeviceRule]) -> bytes:
    """Return the program that grants exactly what the rules grant, 8 bytes an instruction.

    An access passes when one rule alone grants all of it: reading and writing at once is
    not put together from two rules. Raises ValueError for a number that no device has.
    """
    program = [
        _instruction(_LOAD_WORD, _KIND, _CONTEXT, 0),
        _instruction(_MOVE, _RIGHTS, _KIND),
        _instruction(_SHIFT_RIGHT, _RIGHTS, number=16),
        _instruction(_AND_NUMBER, _KIND, number=0xFFFF),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for rule in rules:
        program += _assemble_rule(rule)
    program += [_instruction(_MOVE_NUMBER, _RESULT, number=0), _instruction(_EXIT)]
    return b"".join(program)


def set_fence(group: Path, rules: Iterable[DeviceRule]) -> None:
    """Fence a control group (version 2) in, or replace its fence in one step.

    Needs CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN. Raises OSError naming the group:
    EPERM also when a group above has a fence of this kind or this one has a program that
    was attached with flags; EBADF for version 1. Raises ValueError as `assemble`.
    """
    program = _load(assemble(rules))
    try:
        _attach(_PROG_ATTACH, group, program)
    finally:
        os.close(program)


def clear_fence(group: Path) -> None:
    """Take a group's fence off. Raises OSError naming the group: ENOENT when it has none."""
    _attach(_PROG_DETACH, group, 0)


def fences(group: Path) -> tuple[int, ...]:
    """Return the ids of the device programs attached to a group itself; at most 64.

    Raises OSError naming the group.
    """
    numbers = _Numbers()
    directory = _open(group)
    try:
        query = _QueryAttributes(
            target=directory,
            type=_ATTACH_CGROUP_DEVICE,
            ids=ctypes.addressof(numbers),
            count=len(numbers.values),
        )
        _bpf(_PROG_QUERY, query, filename=str(group))
    finally:
        os.close(directory)
    return tuple(numbers.values[: query.count])


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, *, number: int = 0
) -> bytes:
    return _INSTRUCTION.pack(code, source << 4 | target, offset, number)


def _assemble_rule(rule: DeviceRule) -> list[bytes]:
    wanted = [(_KIND, _BITS[rule.kind]), (_MAJOR, rule.major), (_MINOR, rule.minor)]
    compared = [(register, value) for register, value in wanted if value is not None]
    if any(not 0 <= value < 1 << 20 for _, value in compared):
        raise ValueError(f"{rule}: no device has such a number")
    last = [
        _instruction(_MOVE, _SCRATCH, _RIGHTS),
        _instruction(_AND_NUMBER, _SCRATCH, number=~rule.access & DeviceAccess.ALL.value),
        _instruction(_UNLESS_EQUAL, _SCRATCH, offset=2, number=0),
        _instruction(_MOVE_NUMBER, _RESULT, number=1),
        _instruction(_EXIT),
    ]
    length = len(compared) + len(last)
    # A jump counts from the instruction after it, to the first one after this rule.
    jumps = [
        _instruction(_UNLESS_EQUAL, register, offset=length - at - 1, number=value)
        for at, (register, value) in enumerate(compared)
    ]
    return jumps + last


def _load(program: bytes) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    license_text = ctypes.create_string_buffer(_LICENSE)
    log = ctypes.create_string_buffer(_LOG_SIZE)
    attributes = _LoadAttributes(
        type=_TYPE_CGROUP_DEVICE,
        count=len(program) // _INSTRUCTION.size,
        instructions=ctypes.addressof(code),
        license=ctypes.addressof(license_text),
        name=_NAME,
    )
    try:
        return _loaded(attributes)
    except PermissionError:
        raise
    except OSError as error:
        # The verifier explains itself only when asked to, and its log costs time.
        attributes.log_level = 1
        attributes.log_size = _LOG_SIZE
        attributes.log = ctypes.addressof(log)
        try:
            return _bpf(_PROG_LOAD, attributes, filename="device fence")
        except OSError:
            words = " ".join(os.fsdecode(log.value).split()[-40:])
            text = f"{error.strerror} ({words})"
            raise OSError(error.errno, text, "device fence") from None


def _loaded(attributes: _LoadAttributes) -> int:
    for _ in range(_TRIES - 1):
        # The verifier gives up when a signal waits for its caller.
        with contextlib.suppress(BlockingIOError):
            return _bpf(_PROG_LOAD, attributes, filename="device fence")
    return _bpf(_PROG_LOAD, attributes, filename="device fence")


def _open(group: Path) -> int:
    return os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _attach(command: int, group: Path, program: int) -> None:
    directory = _open(group)
    try:
        attributes = _AttachAttributes(
            target=directory, program=program, type=_ATTACH_CGROUP_DEVICE
        )
        _bpf(command, attributes, filename=str(group))
    finally:
        os.close(directory)


def _bpf(command: int, attributes: ctypes.Structure, *, filename: str) -> int:
    size = ctypes.sizeof(attributes)
    return libc.syscall("bpf", command, ctypes.addressof(attributes), size, filename=filename)
