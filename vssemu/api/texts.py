"""The interface texts: what programs in other languages read.

`python -m vssemu.api.texts` writes `varlink/<interface>.varlink` beside this module; a test
holds those files against the Python tables, which are the source.
"""

from pathlib import Path

from vssemu.api import (
    array,
    device_objects,
    disks,
    lunfaults,
    provider,
    registry,
    requester,
    writer,
)
from vssemu.rpc.idl import describe

INTERFACES = (
    requester.requester,
    writer.writer,
    registry.registry,
    disks.disks,
    device_objects.device_objects,
    provider.provider,
    array.initiator,
    array.admin,
    lunfaults.lun_faults,
)

DIRECTORY = Path(__file__).with_name("varlink")


def texts() -> dict[Path, str]:
    """Return the text of every interface by the file that holds it."""
    return {DIRECTORY / f"{i.name}.varlink": describe(i) for i in INTERFACES}


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text)
