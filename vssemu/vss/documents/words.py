"""The words that stand for enumerators in the documents; the only place that knows them.

Attested by real documents: `full`, both component types, three usage words, TRANSACTION_DB
and OTHER, three restore methods, `never` and `always`. The other words follow the rule of the
specification (the enumerator without its prefix, in the style of its siblings); a clean
capture replaces them here and nowhere else.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from vssemu.vss.enums import (
    BackupType,
    ComponentType,
    RestoreMethod,
    SourceType,
    UsageType,
    WriterRestore,
)

E = TypeVar("E")


def _inverse(table: Mapping[E, str]) -> dict[str, E]:
    return {word: member for member, word in table.items()}


BACKUP_TYPE: Final[Mapping[BackupType, str]] = {
    BackupType.FULL: "full",
    BackupType.INCREMENTAL: "incremental",
    BackupType.DIFFERENTIAL: "differential",
    BackupType.LOG: "log",
    BackupType.COPY: "copy",
    BackupType.OTHER: "other",
}
"""`BACKUP_COMPONENTS/@backupType`."""

COMPONENT_TYPE: Final[Mapping[ComponentType, str]] = {
    ComponentType.DATABASE: "database",
    ComponentType.FILEGROUP: "filegroup",
}
"""`COMPONENT/@componentType`."""

COMPONENT_ELEMENT: Final[Mapping[ComponentType, str]] = {
    ComponentType.DATABASE: "DATABASE",
    ComponentType.FILEGROUP: "FILE_GROUP",
}
"""The element of a component in Writer Metadata; its name carries the type."""

USAGE: Final[Mapping[UsageType, str]] = {
    UsageType.BOOTABLESYSTEMSTATE: "BOOTABLE_SYSTEM_STATE",
    UsageType.SYSTEMSERVICE: "SYSTEM_SERVICE",
    UsageType.USERDATA: "USER_DATA",
    UsageType.OTHER: "OTHER",
}
"""`IDENTIFICATION/@usage`."""

SOURCE: Final[Mapping[SourceType, str]] = {
    SourceType.TRANSACTEDDB: "TRANSACTION_DB",
    SourceType.NONTRANSACTEDDB: "NONTRANSACTION_DB",
    SourceType.OTHER: "OTHER",
}
"""`IDENTIFICATION/@dataSource`."""

RESTORE_METHOD: Final[Mapping[RestoreMethod, str]] = {
    RestoreMethod.RESTORE_IF_NOT_THERE: "RESTORE_IF_NOT_THERE",
    RestoreMethod.RESTORE_IF_CAN_REPLACE: "RESTORE_IF_CAN_BE_REPLACED",
    RestoreMethod.STOP_RESTORE_START: "STOP_RESTORE_START",
    RestoreMethod.RESTORE_TO_ALTERNATE_LOCATION: "RESTORE_TO_ALTERNATE_LOCATION",
    RestoreMethod.RESTORE_AT_REBOOT: "REPLACE_AT_REBOOT",
    RestoreMethod.RESTORE_AT_REBOOT_IF_CANNOT_REPLACE: "REPLACE_AT_REBOOT_IF_CANNOT_REPLACE",
    RestoreMethod.CUSTOM: "CUSTOM",
    RestoreMethod.RESTORE_STOP_START: "RESTORE_STOP_START",
}
"""`RESTORE_METHOD/@method`."""

WRITER_RESTORE: Final[Mapping[WriterRestore, str]] = {
    WriterRestore.NEVER: "never",
    WriterRestore.IF_REPLACE_FAILS: "ifReplaceFails",
    WriterRestore.ALWAYS: "always",
}
"""`RESTORE_METHOD/@writerRestore`."""

BACKUP_TYPE_OF: Final = _inverse(BACKUP_TYPE)
COMPONENT_TYPE_OF: Final = _inverse(COMPONENT_TYPE)
COMPONENT_OF_ELEMENT: Final = _inverse(COMPONENT_ELEMENT)
USAGE_OF: Final = _inverse(USAGE)
SOURCE_OF: Final = _inverse(SOURCE)
RESTORE_METHOD_OF: Final = _inverse(RESTORE_METHOD)
WRITER_RESTORE_OF: Final = _inverse(WRITER_RESTORE)
