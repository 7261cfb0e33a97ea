"""The fence's program, run by a small interpreter of its own and compared with the rules."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssemu.linux.device_fence import DeviceAccess, DeviceRule, assemble
from vssemu.linux.devices import DeviceKind

KIND_BITS = {DeviceKind.BLOCK: 1, DeviceKind.CHARACTER: 2}

rules = st.builds(
    DeviceRule,
    kind=st.sampled_from(DeviceKind),
    major=st.none() | st.integers(0, 3),
    minor=st.none() | st.integers(0, 3),
    access=st.integers(0, 7).map(DeviceAccess),
)


def execute(program: Any, context: bytes) -> Any:
    """What the kernel's interpreter would do with the instructions that are used."""
    code = list(struct.iter_unpack("<BBhi", program))
    registers = [0] * 11
    at = 0
    while True:
        operation, both, offset, number = code[at]
        target, source = both & 15, both >> 4
        at += 1
        match operation:
            case 0x61:
                (registers[target],) = struct.unpack_from("<I", context, offset)
            case 0xB7:
                registers[target] = number
            case 0xBF:
                registers[target] = registers[source]
            case 0x57:
                registers[target] &= number
            case 0x77:
                registers[target] >>= number
            case 0x55:
                at += offset if registers[target] != number else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"instruction {operation:#x}")


@given(
    st.lists(rules, max_size=6),
    st.sampled_from(DeviceKind),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(1, 7),
)
def test_the_program_grants_what_some_rule_grants(
    listed: list[DeviceRule], kind: Any, major: int, minor: int, asked: int
) -> None:
    context = struct.pack("<III", asked << 16 | KIND_BITS[kind], major, minor)
    expected = any(
        rule.kind is kind
        and rule.major in {None, major}
        and rule.minor in {None, minor}
        and asked & ~rule.access == 0
        for rule in listed
    )
    assert execute(assemble(listed), context) == expected


@pytest.mark.parametrize("minor", [-1, 1 << 20])
def test_a_number_that_no_device_has_is_refused(minor: int) -> None:
    with pytest.raises(ValueError, match="no device has such a number"):
        assemble([DeviceRule(kind=DeviceKind.BLOCK, major=7, minor=minor)])
