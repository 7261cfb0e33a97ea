"""Who may call the service: root, and the members of one group.

Checked before every method, so that a caller without the right has no effect at all.
Source: security-considerations-for-requestors.
"""

import grp

from vssemu.rpc.caller import Caller
from vssemu.vss.errors import AccessDenied

OPERATORS = "vss-operators"
"""The group; where it does not exist, root alone may call."""


def authorize(caller: Caller) -> None:
    """Raise AccessDenied unless the caller is root or in the operators' group."""
    peer = caller.credentials
    if peer.uid == 0:
        return
    try:
        operators = grp.getgrnam(OPERATORS).gr_gid
    except KeyError:
        operators = None
    if operators is None or operators not in (peer.gid, *peer.groups):
        raise AccessDenied(
            f"user {peer.uid} may not use the VSS service",
            hint=f"root and the members of the group {OPERATORS} may",
            item=str(peer.uid),
        )
