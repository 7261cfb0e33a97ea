"""The start of the array: what an earlier run left is finished or undone, before service.

in the journal                      then
-----------------------------------------------------------------------------------
create under way                    undone: no LUN row was written yet
extend under way                    finished
withdraw (by surprise) under way    finished, once the other masks are published
set preparing or prepared           undone
set committed, in this boot         settled
set committed, before a reboot      undone: its clones may not have reached the disk
LUN deleting                        finished
LUN ended, or a copy without bytes  its bytes are taken away, once the masks are published
files of unknown LUNs               removed
"""

import structlog

from vssemu.array.border import storage
from vssemu.array.core import Core
from vssemu.array.ending import Endings
from vssemu.array.luns import Luns, finish_deletion
from vssemu.array.masking import Masking
from vssemu.array.rows import OperationKind, OperationRow
from vssemu.array.sets import Sets
from vssemu.array.tables import Tables
from vssemu.vss.array import LunState
from vssemu.vss.errors import VssError

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def recover(core: Core, luns: Luns, masking: Masking, sets: Sets, endings: Endings) -> None:
    """Leave journal, pool and fabric as if nothing had been interrupted. Raises VssError."""
    operations = await core.journal.read(Tables.operations)
    for operation in operations:
        await _recover_lun(core, luns, operation)
    await sets.recover()
    for row in await core.journal.read(Tables.luns_in_state, LunState.DELETING):
        await finish_deletion(core, row.id)
    await _remove_unknown(core)
    await _publish_all(core)
    await endings.note_empty()
    for row in await core.journal.read(Tables.luns_in_state, LunState.ENDED):
        await endings.finish(row)
    for operation in operations:
        if operation.kind is OperationKind.WITHDRAW:
            await _finish_withdrawal(core, masking, operation)


async def _recover_lun(core: Core, luns: Luns, operation: OperationRow) -> None:
    if operation.kind is OperationKind.CREATE:
        logger.info("creation_undone", lun=operation.lun)
        await luns.undo_create(operation.lun, operation.number)
    elif operation.kind is OperationKind.EXTEND:
        assert operation.size is not None
        row = await core.journal.read(Tables.lun, operation.lun)
        if row is None:
            await core.journal.change(Tables.end, operation.number)
            return
        logger.info("extension_finished", lun=operation.lun, size=operation.size)
        await luns.finish_extension(operation.lun, operation.size, operation.number)


async def _remove_unknown(core: Core) -> None:
    known = {row.id for row in await core.journal.read(Tables.luns)}
    with storage("clean up pool", str(core.pool.directory)):
        removed = await core.engine.remove_unknown(known)
    for name in removed:
        logger.warning("unknown_removed", name=name)


async def _publish_all(core: Core) -> None:
    """Publish every mask; a LUN whose files are damaged must not keep the others away."""
    for row in await core.journal.read(Tables.luns):
        for initiator in row.masked_to:
            try:
                with storage("publish LUN", row.id):
                    await core.publish(initiator, row)
            except VssError as error:
                logger.error("lun_not_published", lun=row.id, error=str(error))


async def _finish_withdrawal(core: Core, masking: Masking, operation: OperationRow) -> None:
    row = await core.journal.read(Tables.lun, operation.lun)
    if row is None or operation.initiator is None:
        await core.journal.change(Tables.end, operation.number)
        return
    logger.info("withdrawal_finished", lun=row.id, initiator=operation.initiator)
    if operation.initiator not in row.masked_to:
        await core.publish(operation.initiator, row)
        await masking.finish_withdrawal(row.id, operation.initiator, operation.number)
    else:
        # It was unmasked anew since.
        await core.journal.change(Tables.end, operation.number)
