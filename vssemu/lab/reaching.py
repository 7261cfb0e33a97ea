"""Hosts of labs as programs outside them reach them."""

from pathlib import Path

from vssemu.api.blocking import VSS_SOCKET
from vssemu.lab import enter
from vssemu.lab.config import checked_name
from vssemu.lab.known import Known
from vssemu.lab.lab import Lab
from vssemu.lab.paths import LabPaths
from vssemu.vss.errors import Fail, InvalidArgument

DEFAULT_LAB = "lab"


def vss_socket(lab: str | None, host: str | None, path: str | Path | None = None) -> Path:
    """Return where the VSS service of a running host listens, for this machine.

    lab: None for the one that is called `lab`. path: must be None; it says another place.
    Raises InvalidArgument, ObjectNotFound for a lab or host that there is not, BadState for a
    lab that does not run, Fail for a host that is off, AccessDenied for anybody but root.
    """
    if path is not None:
        raise InvalidArgument("a socket and a host of a lab are given", hint="give one of them")
    name = checked_name(DEFAULT_LAB if lab is None else lab)
    known = Known(LabPaths(name=name))
    hosts = Lab(name).hosts()
    if host is None:
        raise InvalidArgument(
            f"which host of lab {name}?", hint=f"host= one of {', '.join(hosts)}", item=name
        )
    known.check_host(host)
    socket = enter.inside(known.paths, host, str(VSS_SOCKET))
    if not socket.is_socket():
        raise Fail(f"the VSS service of {host} does not serve", item=host)
    return socket
