"""Contexts and attributes of shadow copies, and the one function that judges a mask.

Source: VSS_VOLUME_SNAPSHOT_ATTRIBUTES, VSS_SNAPSHOT_CONTEXT; IVssBackupComponents::SetContext.
"""

from enum import IntEnum, IntFlag

from vssemu.vss.errors import InvalidArgument, UnsupportedContext


class Attribute(IntFlag):
    """VSS_VOLUME_SNAPSHOT_ATTRIBUTES."""

    PERSISTENT = 0x1
    NO_AUTORECOVERY = 0x2
    CLIENT_ACCESSIBLE = 0x4
    NO_AUTO_RELEASE = 0x8
    NO_WRITERS = 0x10
    TRANSPORTABLE = 0x20
    NOT_SURFACED = 0x40
    NOT_TRANSACTED = 0x80
    HARDWARE_ASSISTED = 0x10000
    DIFFERENTIAL = 0x20000
    PLEX = 0x40000
    IMPORTED = 0x80000
    EXPOSED_LOCALLY = 0x100000
    EXPOSED_REMOTELY = 0x200000
    AUTORECOVER = 0x400000
    ROLLBACK_RECOVERY = 0x800000
    DELAYED_POSTSNAPSHOT = 0x1000000
    TXF_RECOVERY = 0x2000000
    FILE_SHARE = 0x4000000


class Context(IntEnum):
    """VSS_SNAPSHOT_CONTEXT; each but ALL is a combination of attributes."""

    BACKUP = 0x0
    FILE_SHARE_BACKUP = 0x10
    NAS_ROLLBACK = 0x19
    APP_ROLLBACK = 0x9
    CLIENT_ACCESSIBLE = 0x1D
    CLIENT_ACCESSIBLE_WRITERS = 0xD
    ALL = 0xFFFF_FFFF


CONTEXT_BITS = (
    Attribute.PERSISTENT
    | Attribute.CLIENT_ACCESSIBLE
    | Attribute.NO_AUTO_RELEASE
    | Attribute.NO_WRITERS
)
"""The attributes that make the context; a requester sets them only by naming a context."""

REQUESTER_MODIFIERS = (
    Attribute.NO_AUTORECOVERY
    | Attribute.TRANSPORTABLE
    | Attribute.NOT_TRANSACTED
    | Attribute.DIFFERENTIAL
    | Attribute.PLEX
    | Attribute.ROLLBACK_RECOVERY
    | Attribute.TXF_RECOVERY
)
"""The attributes that a requester may OR into a context."""


def context_of(mask: int) -> Context:
    """Return the context that a mask is made from.

    mask: a context with or without modifiers, as SetContext takes it.
    Raises InvalidArgument (E_INVALIDARG) for bits that name no context.
    """
    if mask & 0xFFFF_FFFF == Context.ALL:
        return Context.ALL
    try:
        return Context(mask & CONTEXT_BITS)
    except ValueError:
        raise InvalidArgument(
            f"SetContext(0x{mask & 0xFFFF_FFFF:08x}): the bits name no context",
            hint="use a VSS_CTX_* value, with modifiers",
            item=f"0x{mask & 0xFFFF_FFFF:08x}",
        ) from None


def checked_context(mask: int) -> int:
    """Return the mask that SetContext accepts, an unsigned 32-bit number.

    Raises InvalidArgument: unknown bits, bits a requester may not give, DIFFERENTIAL with
    PLEX, a recovery modifier with NO_AUTORECOVERY, a modifier on a client-accessible context.
    """
    if mask & 0xFFFF_FFFF == Context.ALL:
        return int(Context.ALL)
    context = context_of(mask)
    where = f"SetContext(0x{mask & 0xFFFF_FFFF:08x})"
    item = f"0x{mask & 0xFFFF_FFFF:08x}"
    modifiers = mask & ~int(CONTEXT_BITS)
    if refused := modifiers & ~int(REQUESTER_MODIFIERS):
        raise InvalidArgument(
            f"{where}: a requester cannot give the attribute bits 0x{refused & 0xFFFF_FFFF:08x}",
            hint="VSS sets them itself",
            item=item,
        )
    given = Attribute(modifiers)
    if modifiers and context in {Context.CLIENT_ACCESSIBLE, Context.CLIENT_ACCESSIBLE_WRITERS}:
        raise InvalidArgument(f"{where}: {context.name} takes no modifier", item=item)
    if Attribute.DIFFERENTIAL in given and Attribute.PLEX in given:
        raise InvalidArgument(
            f"{where}: DIFFERENTIAL and PLEX exclude each other", hint="give one", item=item
        )
    recovery = Attribute.ROLLBACK_RECOVERY | Attribute.TXF_RECOVERY
    if Attribute.NO_AUTORECOVERY in given and given & recovery:
        raise InvalidArgument(
            f"{where}: NO_AUTORECOVERY excludes the recovery attributes", item=item
        )
    return mask


def creation_context(mask: int) -> Attribute:
    """Return the attributes that a set created under `mask` begins with.

    Raises UnsupportedContext for VSS_CTX_ALL, which only administers.
    """
    if mask & 0xFFFF_FFFF == Context.ALL:
        raise UnsupportedContext(
            "StartSnapshotSet: VSS_CTX_ALL only queries and administers",
            hint="set a context that creates shadow copies",
        )
    return Attribute(mask)


def has_writers(mask: int) -> bool:
    """True when creations under the context involve writers."""
    return mask & 0xFFFF_FFFF != Context.ALL and not mask & Attribute.NO_WRITERS


def is_auto_release(mask: int) -> bool:
    """True when copies of the context die with the interface that holds them."""
    return not mask & Attribute.NO_AUTO_RELEASE
