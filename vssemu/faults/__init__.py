"""Faults on demand: named points in our processes at which a test makes something go wrong.

    from vssemu.faults import Fault, FaultStore

    faults = FaultStore(HOST_DIRECTORY)        # of this host
    faults.arm(Fault("provider", "commit_snapshots", "code", "VSS_E_PROVIDER_VETO"))
    faults.arm(Fault("service", "creation.hold", "stop"))
    ...                                                        # a creation runs into it
    faults.wait_reached("service", "creation.hold")            # it stands there: now act
    faults.release("service", "creation.hold")
    faults.clear()

`vssemu fault` does the same from a command line. A process that has points is given
`FaultPoints` by its composition root and awaits `reach(NAME)` where it may be stopped; all
names are in `names`. Nothing is armed in normal life, and then a point costs one look for a
file that is not there.

What goes wrong with the LUNs themselves is another thing: its words are in `luns`, the log of
their writes in `writelog` and `replay`; `vssemu.api.lunfaults` is how it is asked for.
"""

from vssemu.faults.names import POINTS
from vssemu.faults.plan import ACTIONS, Fault
from vssemu.faults.points import FaultPoints, InjectedFault
from vssemu.faults.store import HOST_DIRECTORY, FaultStore

__all__ = [
    "ACTIONS",
    "HOST_DIRECTORY",
    "POINTS",
    "Fault",
    "FaultPoints",
    "FaultStore",
    "InjectedFault",
]
