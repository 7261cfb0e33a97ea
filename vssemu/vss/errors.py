r"""Every failure that vssemu reports, one class per HRESULT, grouped by who must act.

    VssError
      RequesterError      the caller: BadState, ObjectNotFound, InvalidArgument, ...
      WriterError         a writer: WriterErrorRetryable, WriterErrorTimeout, ...
      ProviderError       a provider or its array: ProviderVeto, InsufficientStorage, ...
      ServiceError        the service or its machine: HoldWritesTimeout, MissingDisk, ...

A class is named as Windows names the code. The fact (with the offending item) and the remedy
are two fields; `str()` is the one line that a command prints:

    VSS_E_BAD_STATE (0x80042301): AddToSnapshotSet(E:\): set ... is created [start a new set]
"""

from vssemu.vss.hresult import Hresult


class VssError(Exception):
    """A failure with its HRESULT, a fact, the offending item and a remedy.

    fact: one line that names the call and the item. hint: what the caller can do, or None.
    item: the offending identifier, path or element, or None.
    """

    hresult: Hresult = Hresult.VSS_E_UNEXPECTED

    def __init__(self, fact: str, *, hint: str | None = None, item: str | None = None) -> None:
        super().__init__(fact)
        self.fact = fact
        self.hint = hint
        self.item = item

    def __str__(self) -> str:
        line = f"{self.hresult}: {self.fact}"
        return f"{line} [{self.hint}]" if self.hint else line


class RequesterError(VssError):
    """The caller asked for something that is not legal, not there or not supported."""


class WriterError(VssError):
    """A writer failed, vetoed or did not answer."""


class ProviderError(VssError):
    """A provider, or the array behind it, failed or refused."""


class ServiceError(VssError):
    """The VSS service or the machine under it failed."""


class BadState(RequesterError):
    """The call is legal, but not now."""

    hresult = Hresult.VSS_E_BAD_STATE


class AccessDenied(RequesterError):
    """The caller is neither root nor in the operators' group."""

    hresult = Hresult.E_ACCESSDENIED


class InvalidArgument(RequesterError):
    """An argument is outside its documented values."""

    hresult = Hresult.E_INVALIDARG


class ObjectNotFound(RequesterError):
    """No such set, copy, volume, component or writer."""

    hresult = Hresult.VSS_E_OBJECT_NOT_FOUND


class ObjectAlreadyExists(RequesterError):
    """The object, for example a component, is there already."""

    hresult = Hresult.VSS_E_OBJECT_ALREADY_EXISTS


class InvalidXmlDocument(RequesterError):
    """The XML is malformed or not a document of this kind."""

    hresult = Hresult.VSS_E_INVALID_XML_DOCUMENT


class NonTransportableBcd(RequesterError):
    """The document describes no transportable shadow copy set."""

    hresult = Hresult.VSS_E_NONTRANSPORTABLE_BCD


class UnsupportedContext(RequesterError):
    """The context does not support the operation."""

    hresult = Hresult.VSS_E_UNSUPPORTED_CONTEXT


class ProviderAlreadyRegistered(RequesterError):
    """A provider of this id and version is registered."""

    hresult = Hresult.VSS_E_PROVIDER_ALREADY_REGISTERED


class ProviderNotRegistered(RequesterError):
    """The provider id is unknown."""

    hresult = Hresult.VSS_E_PROVIDER_NOT_REGISTERED


class ProviderInUse(RequesterError):
    """The provider cannot be unregistered now."""

    hresult = Hresult.VSS_E_PROVIDER_IN_USE


class VolumeNotSupported(RequesterError):
    """No provider supports the volume with these attributes."""

    hresult = Hresult.VSS_E_VOLUME_NOT_SUPPORTED


class VolumeNotSupportedByProvider(RequesterError):
    """The named provider refuses the volume."""

    hresult = Hresult.VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER


class MaximumNumberOfVolumesReached(RequesterError):
    """The set holds 64 volumes already."""

    hresult = Hresult.VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED


class MaximumNumberOfSnapshotsReached(RequesterError):
    """The volume or its provider is at its limit."""

    hresult = Hresult.VSS_E_MAXIMUM_NUMBER_OF_SNAPSHOTS_REACHED


class SnapshotSetInProgress(RequesterError):
    """Another creation is running on this host."""

    hresult = Hresult.VSS_E_SNAPSHOT_SET_IN_PROGRESS


class SnapshotNotInSet(RequesterError):
    """The shadow copy is not in the document."""

    hresult = Hresult.VSS_E_SNAPSHOT_NOT_IN_SET


class VolumeInUse(RequesterError):
    """The volume cannot be taken from its users."""

    hresult = Hresult.VSS_E_VOLUME_IN_USE


class NotSupportedHere(RequesterError):
    """The operation does not exist here."""

    hresult = Hresult.E_NOTIMPL


class WriterAlreadySubscribed(RequesterError):
    """The writer subscribed a second time."""

    hresult = Hresult.VSS_E_WRITER_ALREADY_SUBSCRIBED


class UnexpectedWriterError(WriterError):
    """Events could not be sent to the writers."""

    hresult = Hresult.VSS_E_UNEXPECTED_WRITER_ERROR


class WriterInfrastructure(WriterError):
    """The writer infrastructure does not work."""

    hresult = Hresult.VSS_E_WRITER_INFRASTRUCTURE


class WriterNotResponding(WriterError):
    """A writer gave no status."""

    hresult = Hresult.VSS_E_WRITER_NOT_RESPONDING


class WriterStatusNotAvailable(WriterError):
    """A writer is out of session slots."""

    hresult = Hresult.VSS_E_WRITER_STATUS_NOT_AVAILABLE


class WriterErrorPartialFailure(WriterError):
    """Some components failed; see their failure."""

    hresult = Hresult.VSS_E_WRITERERROR_PARTIAL_FAILURE


class WriterErrorInconsistentSnapshot(WriterError):
    """The set lacks volumes that the writer needs."""

    hresult = Hresult.VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT


class WriterErrorOutOfResources(WriterError):
    """The writer is out of resources; try again later."""

    hresult = Hresult.VSS_E_WRITERERROR_OUTOFRESOURCES


class WriterErrorTimeout(WriterError):
    """The window between Freeze and Thaw was exceeded."""

    hresult = Hresult.VSS_E_WRITERERROR_TIMEOUT


class WriterErrorRetryable(WriterError):
    """A transient failure of the writer."""

    hresult = Hresult.VSS_E_WRITERERROR_RETRYABLE


class WriterErrorNonRetryable(WriterError):
    """A failure of the writer that would recur."""

    hresult = Hresult.VSS_E_WRITERERROR_NONRETRYABLE


class WriterErrorRecoveryFailed(WriterError):
    """The writer could not recover the shadow volume."""

    hresult = Hresult.VSS_E_WRITERERROR_RECOVERY_FAILED


class ProviderVeto(ProviderError):
    """The provider refuses; its event says why."""

    hresult = Hresult.VSS_E_PROVIDER_VETO


class UnexpectedProviderError(ProviderError):
    """The provider answered with a code it may not use, or died."""

    hresult = Hresult.VSS_E_UNEXPECTED_PROVIDER_ERROR


class InsufficientStorage(ProviderError):
    """There is no room for the copy."""

    hresult = Hresult.VSS_E_INSUFFICIENT_STORAGE


class OutOfMemory(ProviderError):
    """Memory ran out."""

    hresult = Hresult.E_OUTOFMEMORY


class NestedVolumeLimit(ProviderError):
    """The volume is nested too deeply."""

    hresult = Hresult.VSS_E_NESTED_VOLUME_LIMIT


class LegacyProvider(ProviderError):
    """The installed version of the provider lacks the operation."""

    hresult = Hresult.VSS_E_LEGACY_PROVIDER


class CannotRevertDiskId(ProviderError):
    """The disk identity could not be set."""

    hresult = Hresult.VSS_E_CANNOT_REVERT_DISKID


class Unexpected(ServiceError):
    """Something failed that should not; the log has it."""

    hresult = Hresult.VSS_E_UNEXPECTED


class Fail(ServiceError):
    """The operation failed."""

    hresult = Hresult.E_FAIL


class FlushWritesTimeout(ServiceError):
    """Flushing a volume took too long."""

    hresult = Hresult.VSS_E_FLUSH_WRITES_TIMEOUT


class HoldWritesTimeout(ServiceError):
    """Writes could not be held, or were held too long."""

    hresult = Hresult.VSS_E_HOLD_WRITES_TIMEOUT


class NoSnapshotsImported(ServiceError):
    """Nothing of the set was imported."""

    hresult = Hresult.VSS_E_NO_SNAPSHOTS_IMPORTED


class MissingDisk(ServiceError):
    """An expected LUN did not arrive."""

    hresult = Hresult.VSS_E_MISSING_DISK


class MissingVolume(ServiceError):
    """An expected volume did not arrive."""

    hresult = Hresult.VSS_E_MISSING_VOLUME


class MissingHiddenVolume(ServiceError):
    """An expected hidden volume did not arrive."""

    hresult = Hresult.VSS_E_MISSING_HIDDEN_VOLUME


class BreakRevertIdFailed(ServiceError):
    """An original LUN is present, so no identity was reverted."""

    hresult = Hresult.VSS_E_BREAK_REVERT_ID_FAILED


class AutoRecoveryFailed(ServiceError):
    """Auto-recovery of the copy failed."""

    hresult = Hresult.VSS_E_AUTORECOVERY_FAILED


class ClusterError(ServiceError):
    """The cluster forbids the operation."""

    hresult = Hresult.VSS_E_CLUSTER_ERROR


class ResyncInProgress(ServiceError):
    """Another resync is running."""

    hresult = Hresult.VSS_E_RESYNC_IN_PROGRESS


class UnselectedVolume(ServiceError):
    """A volume that was not selected would be overwritten."""

    hresult = Hresult.VSS_E_UNSELECTED_VOLUME


class RebootRequired(ServiceError):
    """The machine must restart first."""

    hresult = Hresult.VSS_E_REBOOT_REQUIRED


class OtherError(VssError):
    """A failure whose HRESULT has no class of its own; the instance carries the code."""

    def __init__(
        self, hresult: Hresult, fact: str, *, hint: str | None = None, item: str | None = None
    ) -> None:
        super().__init__(fact, hint=hint, item=item)
        self.hresult = hresult


def _leaves(cls: type[VssError]) -> list[type[VssError]]:
    return [leaf for sub in cls.__subclasses__() for leaf in (sub, *_leaves(sub))]


def error_for(
    hresult: int, fact: str, *, hint: str | None = None, item: str | None = None
) -> VssError:
    """Return the exception for a failure code, of the class that Windows' name gives it.

    hresult: any 32-bit number; one that VSS does not know becomes Unexpected, and the fact
    says which it was. Raises ValueError for a success code.
    """
    try:
        known = Hresult(hresult & 0xFFFF_FFFF)
    except ValueError:
        return Unexpected(f"{fact} (code 0x{hresult & 0xFFFF_FFFF:08x})", hint=hint, item=item)
    if not known.is_failure:
        raise ValueError(f"{known} is a success code")
    for cls in _LEAVES:
        if cls.hresult is known:
            return cls(fact, hint=hint, item=item)
    return OtherError(known, fact, hint=hint, item=item)


_LEAVES = tuple(
    leaf
    for group in (RequesterError, WriterError, ProviderError, ServiceError)
    for leaf in _leaves(group)
)
