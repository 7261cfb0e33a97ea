"""A hundred rounds of the converging clone against held origins."""

import random

import pytest

from tests.rig.array.convergingrig import MIB, Bench, filesystem_load, raw_load, rounds
from vssemu.linux import filesystems


@pytest.mark.timeout(900)
async def test_copies_of_a_raw_device_equal_it_at_the_hold(bench: Bench) -> None:
    chance = random.Random()
    async with raw_load(bench, 48 * MIB, chance) as load:
        assert await rounds(bench, load, 40, chance) > 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("fstype", "size"), [("ext4", 128 * MIB), ("xfs", filesystems.XFS_LEAST)])
async def test_copies_of_a_file_system_equal_it_frozen(
    bench: Bench, fstype: str, size: int
) -> None:
    chance = random.Random()
    async with filesystem_load(bench, fstype, size, chance) as load:
        assert await rounds(bench, load, 30, chance) > 0
