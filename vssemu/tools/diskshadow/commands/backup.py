"""BEGIN BACKUP and END BACKUP: the bracket that tells writers how the backup went."""

from vssemu.api.blocking import BackupComponents
from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.failures import call_failed, calling
from vssemu.tools.diskshadow.requester import finish
from vssemu.tools.diskshadow.session import Act, Created, Session, Stage
from vssemu.vss.enums import WriterState
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import WriterInstanceId


def begin(session: Session, _request: requests.BeginBackup) -> None:
    """Open a full backup session; CREATE tells the writers."""
    session.move(Act.BEGIN_BACKUP)


def end(session: Session, _request: requests.EndBackup) -> None:
    """Close the session. Writers hear BackupComplete only after BEGIN BACKUP and CREATE.

    After a plain CREATE nothing is sent, so that no log is truncated by a copy backup. The
    object stays until RESET or EXIT, and with it volatile copies.
    """
    created = session.created
    if session.stage is Stage.BACKUP_CREATED and created is not None and created.has_writers:
        _complete(created)
    session.move(Act.END_BACKUP)
    session.created = None
    session.volumes.clear()


def _complete(created: Created) -> None:
    vss_object = created.vss_object
    with calling("vssObject->SetBackupSucceeded"):
        for writer, component in created.components:
            vss_object.set_backup_succeeded(writer, component, True)
    with calling("vssObject->BackupComplete"):
        finish(vss_object.backup_complete)
    instances = {writer.metadata.instance_id for writer, _ in created.components}
    check_writers(vss_object, instances, "vssObject->BackupComplete")


def check_writers(
    vss_object: BackupComponents, instances: set[WriterInstanceId], expression: str
) -> None:
    """Raise Failed, naming the writer, when one of these writers has failed."""
    with calling("vssObject->GatherWriterStatus"):
        statuses = vss_object.gather_writer_status()
    for status in statuses:
        if status.instance_id not in instances:
            continue
        if status.state.value >= WriterState.FAILED_AT_IDENTIFY or status.failure != Hresult.S_OK:
            raise call_failed(
                expression,
                f'{status.failure}: writer "{status.name}" is in state'
                f" {status.state.value} (VSS_WS_{status.state.name})"
                + (f": {status.message}" if status.message else ""),
            )
