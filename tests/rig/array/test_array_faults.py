"""Faults of LUNs as the administrator sets them, through the real arrayd, under either engine."""

from pathlib import Path

import pytest

from tests.rig.array.arrayrig import ONE, Site
from vssemu.api import array as admin
from vssemu.api import lunfaults as api
from vssemu.faults.luns import LunFault, LunFaultKind, parse_sectors
from vssemu.faults.writelog import EntryKind, LogReader
from vssemu.vss.errors import BadState, ObjectNotFound
from vssemu.vss.identity import LunId

BLOCK = 4096


@pytest.mark.parametrize("engine", ["cow"])
async def test_faults_power_and_logs_reach_a_host(site: Site, directory: Path) -> None:
    lun = (await site.lun(ONE)).id
    bad = LunFault(kind=LunFaultKind.READ_ERROR, sectors=parse_sectors("8-15"))
    known = await site.call(api.set_lun_fault, lun, bad)
    assert known.seed is not None
    with pytest.raises(OSError, match="Input/output error"):
        await site.one.read(lun, BLOCK, BLOCK)
    assert await site.one.read(lun, BLOCK, 0) == bytes(BLOCK)
    (found,) = await site.call(api.list_lun_faults)
    assert (found.lun, found.fault) == (lun, known)
    assert found.met >= 1
    assert await site.call(api.clear_lun_faults) == 1

    log = directory / "writes.log"
    await site.call(api.record_writes, lun, str(log))
    await site.one.write(lun, b"a" * BLOCK)
    assert await site.call(api.stop_writes, lun) >= 1
    with LogReader(log) as reader:
        assert next(reader.entries()).kind is EntryKind.WRITE

    await site.call(api.set_volatile, lun, True)
    loss = await site.call(api.power_loss, lun)
    assert loss.lost <= loss.blocks
    with pytest.raises(OSError, match="Input/output error"):
        await site.one.read(lun, BLOCK)
    assert [one.origin for one in await site.call(api.list_lun_power)] == [lun]
    await site.call(api.power_on, lun)
    assert await site.one.read(lun, BLOCK) == b"a" * BLOCK
    with pytest.raises(ObjectNotFound, match="there is no LUN"):
        await site.call(api.release_lun, LunId("naa.6" + "0" * 31))


@pytest.mark.parametrize("engine", ["reflink"])
async def test_another_engine_refuses_in_one_line(site: Site) -> None:
    lun = (await site.lun()).id
    with pytest.raises(BadState, match="LUNs of the engine reflink") as caught:
        await site.call(api.set_volatile, lun, True)
    assert "vssemu lab up --engine cow" in str(caught.value)
    with pytest.raises(BadState, match="LUNs of the engine reflink"):
        await site.call(api.list_lun_faults)
    assert (await site.call(admin.inventory))[0].id == lun
