import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from click.testing import CliRunner, Result

from tests.unit.tools.scripted import ScriptedService
from vssemu.api.requester import OperationStatus
from vssemu.tools import inside
from vssemu.tools.main import main
from vssemu.vss.attributes import Attribute
from vssemu.vss.enums import ProviderType
from vssemu.vss.host import Disk, DiskStatus, GptFlags, LunExtents, Volume
from vssemu.vss.hresult import Hresult
from vssemu.vss.identity import (
    LunId,
    ProviderId,
    SnapshotId,
    SnapshotSetId,
    volume_guid_name,
)
from vssemu.vss.lun import Extent, Lun, LunInformation, StorageIdentifier
from vssemu.vss.snapshot import ProviderProperties, SnapshotProperties, filetime

PROVIDER = ProviderId(UUID("0f5b1a31-47d2-4d54-a6d1-9f9d8b1c2e01"))
SET = SnapshotSetId(UUID("aaaaaaaa-0000-4000-8000-000000000001"))

Run = Callable[..., Awaitable[Result]]


def naa(number: int) -> LunId:
    return LunId(f"naa.6{number:031x}")


def lun_information(number: int) -> LunInformation:
    digits = bytes.fromhex(naa(number).removeprefix("naa."))
    identifier = StorageIdentifier(code_set=1, type=3, identifier=digits)
    return LunInformation(serial_number="secret", identifiers=(identifier,))


def volume(letter: str, *, flags: int = GptFlags.NONE) -> Volume:
    guid = UUID(int=ord(letter))
    number = ord(letter)
    lun = Lun(device_name=f"/dev/{letter}", information=lun_information(number))
    return Volume(
        guid=guid,
        name=volume_guid_name(guid),
        letters=(f"{letter}:\\",),
        mount_points=(f"/mnt/{letter}",),
        filesystem="ext4",
        label="data",
        size=64 << 20,
        flags=flags,
        luns=(LunExtents(lun=lun, lun_id=naa(number), extents=(Extent(offset=0, length=1),)),),
    )


def disk(letter: str) -> Disk:
    return Disk(
        lun=Lun(device_name=f"/dev/{letter}", information=lun_information(ord(letter))),
        lun_id=naa(ord(letter)),
        size=64 << 20,
        status=DiskStatus.ONLINE,
        disk_guid=UUID(int=5),
        volumes=(volume_guid_name(UUID(int=ord(letter))),),
    )


def shadow(
    number: int,
    letter: str,
    *,
    attributes: int = 0x19,
    set_id: SnapshotSetId = SET,
    count: int = 2,
    moment: datetime | None = None,
) -> SnapshotProperties:
    return SnapshotProperties(
        snapshot_id=SnapshotId(UUID(int=number)),
        snapshot_set_id=set_id,
        snapshots_count=count,
        device_object=f"/run/vssemu/GLOBALROOT/Device/HarddiskVolumeShadowCopy{number}",
        original_volume_name=volume_guid_name(UUID(int=ord(letter))),
        originating_machine="systemOne",
        service_machine="systemTwo",
        provider_id=PROVIDER,
        attributes=Attribute(attributes),
        creation_timestamp=filetime(moment or datetime(2022, 5, 31, 13, 45, 5, tzinfo=UTC)),
    )


PROVIDER_PROPERTIES = ProviderProperties(
    provider_id=PROVIDER,
    name="Array Provider",
    type=ProviderType.HARDWARE,
    version="1.2.3",
    version_id=UUID(int=7),
    class_id=UUID(int=8),
)
FINISHED = OperationStatus(hresult=int(Hresult.VSS_S_ASYNC_FINISHED))


@pytest.fixture
def answers() -> dict[str, Any]:
    """What the service says; tests change it before they ask."""
    return {
        "open": "session",
        "wait": FINISHED,
        "list_volumes": [volume("F"), volume("G")],
        "list_disks": [disk("F"), disk("G")],
        "query": [],
        "query_providers": [PROVIDER_PROPERTIES],
        "gather_writer_metadata": "operation",
        "gather_writer_status": "operation",
        "writer_status": [],
        "is_volume_supported": True,
        "get_snapshot_luns": lambda snapshot_id: [lun_information(snapshot_id.int)],
    }


@pytest.fixture
async def host(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]
) -> AsyncIterator[ScriptedService]:
    """A host's VSS service, where the commands look for it."""
    # Socket addresses are 108 bytes long at most; pytest's own directories are longer.
    directory = Path(tempfile.mkdtemp(prefix="vs-", dir="/tmp"))
    service = ScriptedService(directory / "vss.sock", answers)
    monkeypatch.setattr(inside, "SOCKET", service.path)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(service.serve)
            yield service
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that is no host."""
    monkeypatch.setattr(inside, "SOCKET", tmp_path / "vss.sock")


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def vssemu() -> Run:
    """Run a `vssemu` command line in a thread, beside the service."""

    async def run(*arguments: str) -> Result:
        call = partial(CliRunner().invoke, main, arguments, prog_name="vssemu")
        with trio.fail_after(30):
            return await trio.to_thread.run_sync(call)

    return run


@pytest.fixture
def program() -> Callable[[str], Path]:
    """The path of a console script of this installation."""
    return lambda name: Path(sys.executable).with_name(name)
