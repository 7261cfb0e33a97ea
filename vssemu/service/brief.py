"""Arguments and results of provider calls in a few words, for traces.

LUNs by their NAA ids, GUIDs in braces, contexts in hexadecimal; long lists and texts are cut
off and say so. Values of a provider's configuration are left out: they may be secrets.
"""

from collections.abc import Mapping, Sequence
from enum import Flag
from typing import Any, Final
from uuid import UUID

from vssemu.rpc.interface import Method
from vssemu.service.record import short
from vssemu.vss.identity import braced
from vssemu.vss.lun import Lun, LunInformation
from vssemu.vss.provider import HostIdentity, Supported

ITEMS: Final = 4
"""Members of a list that are named."""


def arguments(method: Method[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the arguments of a call as `name=value, ...`."""
    bound = method.signature.bind(*args, **kwargs).arguments
    return short(", ".join(f"{name}={_one(name, each)}" for name, each in bound.items()))


def value(result: object) -> str:
    """Return a result in short, empty for none."""
    return "" if result is None else short(_one("", result))


def _one(name: str, each: object) -> str:
    if name == "context" and isinstance(each, int):
        return f"0x{each:08x}"
    match each:
        case Lun():
            return each.information.describe()
        case LunInformation():
            return each.describe()
        case Supported():
            verdict = "supported" if each.supported else "not supported"
            return f"{verdict}, {_one('', each.luns)}" if each.luns else verdict
        case HostIdentity():
            return each.machine
        case UUID():
            return braced(each)
        case Flag():
            return each.name or hex(each.value)
        case Mapping():
            return f"{{{', '.join(map(str, each))}}}"
        case str():
            return each
        case Sequence():
            named = ", ".join(_one("", inner) for inner in each[:ITEMS])
            return f"{len(each)}: {named}" + (", …" if len(each) > ITEMS else "")
    return str(each)
