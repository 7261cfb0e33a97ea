"""Every row of the sequences is passed by the service, in its order: no fault point is dead."""

from typing import Any

import pytest

from vssemu.api import requester as table
from vssemu.vss import steps
from vssemu.vss.enums import HardwareOptions, ObjectType
from vssemu.vss.errors import ProviderVeto
from vssemu.vss.hresult import Hresult
from vssemu.vss.provider import ProviderFailure


class Passed:
    """Points that note their names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def reach(self, name: str) -> None:
        self.names.append(name)

    @property
    def rows(self) -> list[str]:
        """The rows that were begun, each once, as they came."""
        begun = [name for name in self.names if not name.endswith(".done")]
        return list(dict.fromkeys(begun))


def watched(node: Any) -> Passed:
    node.service.parts.faults = passed = Passed()
    return passed


def rows(sequence: str) -> list[str]:
    return [steps.point(sequence, step) for step in steps.ROWS[sequence]]


async def finished(requester: Any) -> None:
    await requester.done(table.backup_complete)
    await requester.call(table.release)


async def imported(one: Any, two: Any) -> Any:
    creator = await one.requester()
    await creator.created("F:\\", context=0x29)
    backup = await two.requester()
    await backup.call(table.initialize_for_backup, await creator.call(table.save_as_xml))
    await backup.done(table.import_snapshots)
    backup.set_id = creator.set_id
    return backup


@pytest.mark.parametrize("context", [0, 0x20])
async def test_a_creation_passes_its_rows_in_order(one: Any, context: Any) -> None:
    passed = watched(one)
    await one.writer("files")
    requester = await one.requester()
    await requester.created("F:\\", context=context)
    await finished(requester)
    creation = [name for name in passed.rows if name.startswith("creation.")]
    arrival = {steps.point("creation", step) for step in steps.ArrivalStep}
    wanted = [row for row in rows("creation") if context == 0 or row not in arrival]
    assert creation == wanted
    ended = {name.removesuffix(".done") for name in passed.names if name.endswith(".done")}
    assert ended == set(passed.rows)


async def test_an_import_passes_its_rows_in_order(one: Any, two: Any) -> None:
    passed = watched(two)
    await imported(one, two)
    assert passed.rows == rows("import")


async def test_a_deletion_passes_its_rows_in_order(one: Any, two: Any) -> None:
    backup = await imported(one, two)
    passed = watched(two)
    await backup.call(table.delete_snapshots, backup.set_id, ObjectType.SNAPSHOT_SET, force=False)
    assert passed.rows == rows("delete")


async def test_breaks_pass_their_rows_in_order(one: Any, two: Any) -> None:
    backup = await imported(one, two)
    passed = watched(two)
    flags = HardwareOptions.MAKE_READ_WRITE
    operation = await backup.call(table.break_snapshot_set_ex, backup.set_id, flags)
    await backup.call(table.wait, operation, None)
    assert passed.rows == rows("break")[:4]


async def test_a_masking_that_fails_passes_the_rows_of_an_arrival(one: Any, two: Any) -> None:
    backup = await imported(one, two)
    passed = watched(two)
    mask = HardwareOptions.MASK_LUNS

    async def masked() -> Any:
        operation = await backup.call(table.break_snapshot_set_ex, backup.set_id, mask)
        return await backup.call(table.wait, operation, None)

    refusal = ProviderFailure(Hresult.VSS_E_PROVIDER_VETO, "the LUN is in use")

    async def mask_and_refuse() -> None:
        two.array.retract([copy.record for copy in two.array.copies.values()], two.host.name)
        raise refusal

    two.plan["array"]["OnLunStateChange"] = mask_and_refuse
    assert (await masked()).hresult == ProviderVeto.hresult
    assert passed.rows == [*rows("break")[4:6], *rows("break")[7:]]
    passed.names.clear()
    two.plan["array"].clear()
    assert (await masked()).hresult == Hresult.VSS_S_ASYNC_FINISHED
    assert passed.rows == rows("break")[4:7]
