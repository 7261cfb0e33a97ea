"""What the kernel's first FUSE request says, on requests that kernels sent."""

import struct

import pytest

from vssemu.linux import fuse

OF_6_18 = bytes.fromhex(
    "680000001a0000000200000000000000000000000000000000000000000000000000000000000000"
    "070000002d00000000000200fbffff73fd050000" + "00" * 44
)
FLAGS = 40 + 12


def with_flags(flags: int, more_flags: int) -> bytes:
    return OF_6_18[:FLAGS] + struct.pack("=II", flags, more_flags) + OF_6_18[FLAGS + 8 :]


@pytest.mark.parametrize(
    ("init", "offers"),
    [
        (OF_6_18, True),
        (with_flags(0x73FFFFFB, 0x05FD & ~0x80), False),
        (with_flags(0x73FFFFFB & ~(1 << 30), 0x05FD), False),
        (with_flags(0x33FFFFFB, 0), False),
    ],
    ids=["6.18", "without the bit", "second word not valid", "6.1"],
)
def test_whether_the_kernel_sends_again_is_in_its_first_request(init: bytes, offers: bool) -> None:
    assert fuse.offers_resend(init) is offers
