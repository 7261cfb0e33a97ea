"""Manifest.xml of a DiskShadow metadata cabinet.

The form is pinned by real files and odd: UTF-16LE without BOM and declaration, one line,
attributes in single quotes with a blank on both sides of `=`, a blank before the `>` of every
start tag, no self-closing tags. Real software may look for it byte by byte, so it is written
by hand and not by an XML library.
"""

import ntpath
from dataclasses import dataclass
from xml.sax.saxutils import escape

from lxml import etree

from vssemu.vss.documents import items, xmltext
from vssemu.vss.identity import GUID_NULL, ProviderId, SnapshotId, SnapshotSetId, braced

NAME = "cabinet manifest"
BCD_MEMBER = "BCDocument.xml"
_NO_PROVIDER = ProviderId(GUID_NULL)


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestCopy:
    r"""A shadow copy in the manifest.

    original_volume: the drive letter path (`F:\`) or other name that the script gave; the
    Backup Components Document does not have it. provider_id: GUID_NULL when none was named.
    """

    snapshot_id: SnapshotId
    alias: str
    original_volume: str
    provider_id: ProviderId = _NO_PROVIDER


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a cabinet says beside the documents.

    aliases: names and values, `VSS_SHADOW_SET` last. writers: friendly names in the order of
    the members WM0.xml, WM1.xml, ... log_file: the member `Dis<4 hex>.tmp`.
    """

    snapshot_set_id: SnapshotSetId
    machine_name: str
    copies: tuple[ManifestCopy, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    writers: tuple[str, ...] = ()
    writer_members: tuple[str, ...] = ()
    bcd_member: str = BCD_MEMBER
    log_file: str = "Dis0000.tmp"


def member_of_writer(number: int) -> str:
    """Return the name of the member with the metadata of writer `number`, from 0."""
    return f"WM{number}.xml"


def write(manifest: Manifest) -> bytes:
    """Return the bytes of Manifest.xml."""
    copies = "".join(
        _element(
            "ShadowCopy",
            {
                "GUID": braced(copy.snapshot_id),
                "Alias": copy.alias,
                "OriginalVolume": copy.original_volume,
                "Provider": braced(copy.provider_id),
            },
        )
        for copy in manifest.copies
    )
    shadow_set = {"GUID": braced(manifest.snapshot_set_id), "MachineName": manifest.machine_name}
    aliases = "".join(
        _element("Alias", {"Name": name, "Value": value}) for name, value in manifest.aliases
    )
    writers = "".join(
        _element(
            "Writer",
            {"Name": name.replace(" ", "%s"), "MetadataFile": member_of_writer(number)},
        )
        for number, name in enumerate(manifest.writers)
    )
    body = (
        _element("ShadowCopySet", shadow_set, copies)
        + _element("BackupComponents", {"File": manifest.bcd_member})
        + _element("Aliases", {}, aliases)
        + _element("Writers", {"Count": str(len(manifest.writers))}, writers)
        + _element("Logfile", {"Name": manifest.log_file})
    )
    return _element("Manifest", {}, body).encode("utf-16-le")


def _element(name: str, attributes: dict[str, str], content: str = "") -> str:
    quoted = "".join(
        f"{key} = '{escape(value, {chr(39): '&apos;', chr(10): '&#10;'})}' "
        for key, value in attributes.items()
    )
    return f"<{name} {quoted}>{content}</{name}>"


def read(data: str | bytes) -> Manifest:
    """Return what a Manifest.xml says. Raises InvalidXmlDocument."""
    root = xmltext.parse(data, root="Manifest", namespace="", document=NAME)
    shadow_set = _needed(root, "ShadowCopySet")
    components = _needed(root, "BackupComponents")
    log_file = items.child(root, "Logfile")
    writers = list(_grandchildren(root, "Writers", "Writer"))
    return Manifest(
        snapshot_set_id=SnapshotSetId(items.read_guid(shadow_set, "GUID")),
        machine_name=items.required(shadow_set, "MachineName"),
        copies=tuple(
            ManifestCopy(
                snapshot_id=SnapshotId(items.read_guid(copy, "GUID")),
                alias=copy.get("Alias", ""),
                original_volume=copy.get("OriginalVolume", ""),
                provider_id=ProviderId(items.read_guid(copy, "Provider")),
            )
            for copy in items.children(shadow_set, "ShadowCopy")
        ),
        aliases=tuple(
            (items.required(alias, "Name"), items.required(alias, "Value"))
            for alias in _grandchildren(root, "Aliases", "Alias")
        ),
        writers=tuple(items.required(w, "Name").replace("%s", " ") for w in writers),
        # Written by Windows, this is a path on the host that made the cabinet.
        writer_members=tuple(
            ntpath.basename(items.required(writer, "MetadataFile")) for writer in writers
        ),
        bcd_member=ntpath.basename(items.required(components, "File")),
        log_file="" if log_file is None else items.required(log_file, "Name"),
    )


def _needed(root: etree._Element, name: str) -> etree._Element:
    element = items.child(root, name)
    if element is None:
        raise items.invalid(root, f"the element {name} is missing")
    return element


def _grandchildren(root: etree._Element, name: str, inner: str) -> list[etree._Element]:
    outer = items.child(root, name)
    return [] if outer is None else list(items.children(outer, inner))
