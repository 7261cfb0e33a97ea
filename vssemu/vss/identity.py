"""Identities: a type for each, and their one written form.

GUIDs are lower case without braces on the wire and in documents, in braces in what people
read and type. They are compared as values, never as text.
"""

from typing import NewType
from uuid import UUID

SnapshotId = NewType("SnapshotId", UUID)
SnapshotSetId = NewType("SnapshotSetId", UUID)
ProviderId = NewType("ProviderId", UUID)
WriterId = NewType("WriterId", UUID)
"""A writer class, chosen by its developer and shared by all its instances."""
WriterInstanceId = NewType("WriterInstanceId", UUID)
"""One running writer; VSS makes it anew at every writer start."""
LunId = NewType("LunId", str)
"""`naa.` and 32 hex digits, the page 0x83 identifier of a LUN; never reused."""
Initiator = NewType("Initiator", str)
"""The name by which the array knows a host."""

GUID_NULL = UUID(int=0)

ARRAY_PROVIDER_ID = ProviderId(UUID("6f1e9a52-70c1-4e0b-9d6e-0a5c31d7b2f4"))
"""The hardware provider that comes with vssemu and drives its virtual array."""

DEVICE_OBJECT_PREFIX = "HarddiskVolumeShadowCopy"


def parse_guid(text: str) -> UUID:
    """Return the GUID that `text` writes, with or without braces, in any case.

    Raises ValueError when it is not the 8-4-4-4-12 form.
    """
    bare = text.strip()
    if bare.startswith("{") and bare.endswith("}"):
        bare = bare[1:-1]
    value = UUID(bare)
    if str(value) != bare.lower():
        raise ValueError(f"not a GUID of the form 8-4-4-4-12: {text!r}")
    return value


def braced(guid: UUID) -> str:
    """Return `{8-4-4-4-12}` in lower case, as the Windows tools print it."""
    return f"{{{guid}}}"


def volume_guid_name(guid: UUID) -> str:
    """Return the volume GUID path with its trailing backslash."""
    return f"\\\\?\\Volume{{{guid}}}\\"
