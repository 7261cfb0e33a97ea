"""The VSS service of the host that a command runs on."""

from collections.abc import Iterator
from contextlib import contextmanager

from vssemu.api import blocking
from vssemu.vss.errors import Fail

SOCKET = blocking.VSS_SOCKET


@contextmanager
def service() -> Iterator[blocking.Vss]:
    """Give a connection to the VSS service of this host.

    Raises Fail when none answers, as on a machine that is no host.
    """
    try:
        vss = blocking.connect(SOCKET)
    except OSError as error:
        raise Fail(
            f"no VSS service answers at {SOCKET}: {error.strerror}",
            hint="run this inside a host: vssemu lab exec HOST -- COMMAND",
            item=str(SOCKET),
        ) from error
    with vss:
        yield vss
