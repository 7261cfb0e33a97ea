"""The snapshot set part of a Backup Components Document: what an import needs.

    SNAPSHOT_SET_DESCRIPTION snapshotSetId, ve:context
      SNAPSHOT_DESCRIPTION snapshotId                    in the order of AddToSnapshotSet
        ve:snapshot          the properties of the copy
        LUN_MAPPING                                      in the order of the provider's array
          ve:sourceLun       diskSignature + ve:lun      the original
          DESTINATION_LUN
            LUN_INFORMATION  diskSignature + ve:lun      the copy
          ve:extent          where the volume lies

Names without prefix are real ones, seen to be read by other software; the rest is ours. A
document from Windows has the real names but not our data, and cannot be imported here.
"""

from lxml import etree

from vssemu.vss.attributes import Attribute
from vssemu.vss.documents import items
from vssemu.vss.documents.items import ve
from vssemu.vss.enums import SnapshotState
from vssemu.vss.errors import InvalidXmlDocument, NonTransportableBcd
from vssemu.vss.identity import ProviderId, SnapshotId, SnapshotSetId
from vssemu.vss.lun import Extent, Interconnect, LunInformation, StorageIdentifier
from vssemu.vss.snapshot import (
    LunMapping,
    SnapshotDescription,
    SnapshotProperties,
    SnapshotSetDescription,
)

ELEMENT = "SNAPSHOT_SET_DESCRIPTION"

_WINDOWS_HINT = (
    "documents written by Windows lack it; create the set with vssemu on the originating host"
)
_STRINGS = {
    "vendorId": "vendor_id",
    "productId": "product_id",
    "productRevision": "product_revision",
    "serialNumber": "serial_number",
}


def write(root: etree._Element, description: SnapshotSetDescription) -> None:
    """Put a set's description into the document, in place of one that is there."""
    for old in list(items.children(root, ELEMENT)):
        root.remove(old)
    element = items.add(
        root,
        ELEMENT,
        {
            "snapshotSetId": str(description.snapshot_set_id),
            ve("context"): _hex32(description.context),
        },
    )
    for snapshot in description.snapshots:
        _write_snapshot(element, snapshot)


def _write_snapshot(parent: etree._Element, snapshot: SnapshotDescription) -> None:
    copy = snapshot.properties
    element = items.add(parent, "SNAPSHOT_DESCRIPTION", {"snapshotId": str(copy.snapshot_id)})
    attributes = {
        "originalVolumeName": copy.original_volume_name,
        "providerId": str(copy.provider_id),
        "snapshotAttributes": _hex32(copy.attributes),
        "snapshotsCount": str(copy.snapshots_count),
        "creationTimestamp": str(copy.creation_timestamp),
        "originatingMachine": copy.originating_machine,
        "serviceMachine": copy.service_machine,
        "exposedName": copy.exposed_name,
        "exposedPath": copy.exposed_path,
        # Requesters only ever see CREATED, so only another state is worth a word.
        "status": None if copy.status == SnapshotState.CREATED else str(int(copy.status)),
    }
    items.add(element, ve("snapshot"), attributes)
    for mapping in snapshot.luns:
        _write_mapping(items.add(element, "LUN_MAPPING", {}), mapping)


def _write_mapping(element: etree._Element, mapping: LunMapping) -> None:
    source = {"diskSignature": str(mapping.source.disk_signature)}
    _write_lun(items.add(element, ve("sourceLun"), source), mapping.source)
    destination = items.add(
        items.add(element, "DESTINATION_LUN", {}),
        "LUN_INFORMATION",
        {"diskSignature": str(mapping.destination.disk_signature)},
    )
    _write_lun(destination, mapping.destination)
    for extent in mapping.extents:
        items.add(
            element,
            ve("extent"),
            {"startingOffset": str(extent.offset), "extentLength": str(extent.length)},
        )


def _write_lun(parent: etree._Element, lun: LunInformation) -> None:
    attributes: dict[str, str | None] = {
        "version": str(lun.version),
        "deviceType": str(lun.device_type),
        "deviceTypeModifier": str(lun.device_type_modifier),
        "commandQueueing": items.write_yes_no(lun.command_queueing),
        "busType": str(int(lun.bus_type)),
    }
    attributes |= {name: getattr(lun, member) for name, member in _STRINGS.items()}
    attributes["deviceIdVersion"] = str(lun.device_id_version)
    element = items.add(parent, ve("lun"), attributes)
    for identifier in lun.identifiers:
        items.add(
            element,
            ve("identifier"),
            {"codeSet": str(int(identifier.code_set)), "type": str(int(identifier.type))},
            items.write_base64(identifier.identifier),
        )
    for path in lun.interconnects:
        items.add(
            element,
            ve("interconnect"),
            {
                "addressType": str(int(path.address_type)),
                "port": items.write_base64(path.port),
                "address": items.write_base64(path.address),
            },
        )


def _hex32(mask: int) -> str:
    return f"0x{mask & 0xFFFF_FFFF:08x}"


def read(root: etree._Element) -> SnapshotSetDescription:
    """Return the description of the transportable set in a document.

    Raises NonTransportableBcd when the document describes none, InvalidXmlDocument when the
    description lacks what an import needs.
    """
    element = items.child(root, ELEMENT)
    if element is None:
        raise NonTransportableBcd(
            f"{items.where(root)}: the document has no {ELEMENT}",
            hint="create the set with the transportable option and save the document after"
            " DoSnapshotSet",
            item=ELEMENT,
        )
    set_id = SnapshotSetId(items.read_guid(element, "snapshotSetId"))
    found = list(items.children(element, "SNAPSHOT_DESCRIPTION"))
    if not found:
        raise items.invalid(element, "it has no SNAPSHOT_DESCRIPTION")
    snapshots = tuple(_read_snapshot(snapshot, set_id) for snapshot in found)
    _refuse_twins(element, snapshots)
    if element.get(ve("context")) is None:
        raise items.invalid(
            element, "the set's context is missing", item=ve("context"), hint=_WINDOWS_HINT
        )
    return SnapshotSetDescription(
        snapshot_set_id=set_id,
        context=items.read_number(element, ve("context")),
        snapshots=snapshots,
    )


def _refuse_twins(element: etree._Element, snapshots: tuple[SnapshotDescription, ...]) -> None:
    seen = set()
    for snapshot in snapshots:
        if snapshot.properties.snapshot_id in seen:
            raise items.invalid(
                element, f"shadow copy {snapshot.properties.snapshot_id} is there twice"
            )
        seen.add(snapshot.properties.snapshot_id)


def _read_snapshot(element: etree._Element, set_id: SnapshotSetId) -> SnapshotDescription:
    snapshot_id = SnapshotId(items.read_guid(element, "snapshotId"))
    mappings = list(items.children(element, "LUN_MAPPING"))
    if not mappings:
        raise items.invalid(
            element,
            f"shadow copy {snapshot_id} has no LUN information (LUN_MAPPING)",
            hint=_WINDOWS_HINT,
        )
    luns = tuple(_read_mapping(mapping) for mapping in mappings)
    facts = items.child(element, ve("snapshot"))
    if facts is None:
        raise items.invalid(
            element,
            f"the properties of shadow copy {snapshot_id} (ve:snapshot) are missing",
            hint=_WINDOWS_HINT,
        )
    return SnapshotDescription(properties=_read_properties(facts, snapshot_id, set_id), luns=luns)


def _read_properties(
    facts: etree._Element, snapshot_id: SnapshotId, set_id: SnapshotSetId
) -> SnapshotProperties:
    status = items.read_number(facts, "status", default=int(SnapshotState.CREATED))
    states = {int(state): state for state in SnapshotState}
    if status not in states:
        raise items.invalid(facts, f"{status} is no VSS_SNAPSHOT_STATE", item="status")
    return SnapshotProperties(
        snapshot_id=snapshot_id,
        snapshot_set_id=set_id,
        snapshots_count=items.read_number(facts, "snapshotsCount"),
        device_object="",
        original_volume_name=items.required(facts, "originalVolumeName"),
        originating_machine=items.required(facts, "originatingMachine"),
        service_machine=items.required(facts, "serviceMachine"),
        exposed_name=facts.get("exposedName"),
        exposed_path=facts.get("exposedPath"),
        provider_id=ProviderId(items.read_guid(facts, "providerId")),
        attributes=Attribute(items.read_number(facts, "snapshotAttributes")),
        creation_timestamp=items.read_number(facts, "creationTimestamp", bits=64),
        status=states[status],
    )


def _read_mapping(element: etree._Element) -> LunMapping:
    target = items.child(element, "DESTINATION_LUN")
    target = None if target is None else items.child(target, "LUN_INFORMATION")
    if target is None:
        raise _missing(element, "target", "DESTINATION_LUN/LUN_INFORMATION")
    source = _source_of(element)
    if source is None:
        raise _missing(element, "source", "ve:sourceLun")
    return LunMapping(
        source=_read_lun(source, "source"),
        destination=_read_lun(target, "target"),
        extents=tuple(
            Extent(
                offset=items.read_number(extent, "startingOffset", bits=64),
                length=items.read_number(extent, "extentLength", bits=64),
            )
            for extent in items.children(element, ve("extent"))
        ),
    )


def _source_of(mapping: etree._Element) -> etree._Element | None:
    """Return the element with the original LUN's record.

    No clean source names the element that Windows uses, so any sibling of the destination
    that holds a LUN_INFORMATION counts.
    """
    ours = items.child(mapping, ve("sourceLun"))
    if ours is not None:
        return ours
    for sibling in items.elements(mapping):
        if items.local_name(sibling) != "DESTINATION_LUN":
            held = items.child(sibling, "LUN_INFORMATION")
            if held is not None:
                return held
    return None


def _read_lun(holder: etree._Element, side: str) -> LunInformation:
    signature = items.read_guid(holder, "diskSignature")
    element = items.child(holder, ve("lun"))
    if element is None:
        raise _missing(holder, side, "ve:lun")
    return LunInformation(
        version=items.read_number(element, "version"),
        device_type=items.read_number(element, "deviceType", bits=8),
        device_type_modifier=items.read_number(element, "deviceTypeModifier", bits=8),
        command_queueing=items.read_yes_no(element, "commandQueueing"),
        bus_type=items.read_number(element, "busType"),
        vendor_id=element.get("vendorId"),
        product_id=element.get("productId"),
        product_revision=element.get("productRevision"),
        serial_number=element.get("serialNumber"),
        disk_signature=signature,
        device_id_version=items.read_number(element, "deviceIdVersion", default=1),
        identifiers=tuple(
            StorageIdentifier(
                code_set=items.read_number(identifier, "codeSet"),
                type=items.read_number(identifier, "type"),
                identifier=items.read_base64(identifier, identifier.text or ""),
            )
            for identifier in items.children(element, ve("identifier"))
        ),
        interconnects=tuple(
            Interconnect(
                address_type=items.read_number(path, "addressType"),
                port=items.read_base64(path, items.required(path, "port"), "port"),
                address=items.read_base64(path, items.required(path, "address"), "address"),
            )
            for path in items.children(element, ve("interconnect"))
        ),
    )


def _missing(element: etree._Element, side: str, name: str) -> InvalidXmlDocument:
    return items.invalid(
        element, f"the information on the {side} LUN ({name}) is missing", hint=_WINDOWS_HINT
    )
