"""org.varlink.service: what every varlink service says about itself.

Source: https://varlink.org/Service
"""

import dataclasses
from collections.abc import Sequence

from vssemu.rpc.caller import Caller
from vssemu.rpc.errors import SERVICE as SERVICE_NAME
from vssemu.rpc.errors import InterfaceNotFound
from vssemu.rpc.idl import describe
from vssemu.rpc.interface import Declared, Interface

SERVICE = Interface(SERVICE_NAME, "What every varlink service says about itself.")

STANDARD_ERRORS = (
    "error InterfaceNotFound (interface: string)",
    "error MethodNotFound (method: string)",
    "error MethodNotImplemented (method: string)",
    "error InvalidParameter (parameter: string)",
    "error ExpectedMore ()",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceInfo:
    """Who made the service, and which interfaces it has."""

    vendor: str
    product: str
    version: str
    url: str
    interfaces: list[str] = dataclasses.field(default_factory=list)


@SERVICE.method()
def get_info() -> ServiceInfo:
    """Return who made the service, and the names of its interfaces."""
    raise Declared


@SERVICE.method(returns="description")
def get_interface_description(interface: str) -> str:
    """Return an interface as varlink text."""
    raise Declared


class Introspection:
    """The implementation of org.varlink.service for a set of interfaces."""

    def __init__(self, info: ServiceInfo, interfaces: Sequence[Interface]) -> None:
        self._texts = {SERVICE.name: describe(SERVICE, errors=STANDARD_ERRORS)}
        self._texts |= {interface.name: describe(interface) for interface in interfaces}
        self._info = dataclasses.replace(info, interfaces=list(self._texts))

    async def get_info(self, caller: Caller) -> ServiceInfo:
        """See the declaration."""
        return self._info

    async def get_interface_description(self, caller: Caller, interface: str) -> str:
        """See the declaration."""
        text = self._texts.get(interface)
        if text is None:
            raise InterfaceNotFound(interface)
        return text
