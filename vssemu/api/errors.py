"""How a VssError travels: the one error type of every vssemu interface.

error Failed (hresult: int, name: string, fact: string, hint: ?string, item: ?string)
"""

from collections.abc import Mapping
from typing import Any

from vssemu.vss.errors import Unexpected, VssError, error_for
from vssemu.vss.hresult import Hresult
from vssemu.vss.provider import ProviderFailure


def encode_error(error: Exception) -> dict[str, Any] | None:
    """Return the parameters of Failed; None for an exception that is nobody's to report.

    A ProviderFailure, which a provider raises, travels as its code and event text.
    """
    if isinstance(error, ProviderFailure):
        code, fact, hint, item = error.hresult, error.event_text, None, None
    elif isinstance(error, VssError):
        code, fact, hint, item = error.hresult, error.fact, error.hint, error.item
    else:
        return None
    return {"hresult": int(code), "name": code.name, "fact": fact, "hint": hint, "item": item}


def unexpected(error: Exception) -> dict[str, Any]:
    """Return the parameters of Failed for an exception that should not have been."""
    answer = encode_error(
        Unexpected(f"{type(error).__name__}: {error}", hint="the service's log has the details")
    )
    assert answer is not None
    return answer


def decode_error(parameters: Mapping[str, Any]) -> VssError:
    """Return the exception that Failed stands for; spoilt parameters become Unexpected."""
    fact = str(parameters.get("fact", ""))
    hint, item = parameters.get("hint"), parameters.get("item")
    try:
        return error_for(int(parameters["hresult"]), fact, hint=hint, item=item)
    except (KeyError, ValueError, TypeError):
        return Unexpected(f"an error that cannot be read: {dict(parameters)!r}")


def status_error(hresult: int, fact: str, hint: str | None, item: str | None) -> VssError | None:
    """Return the exception of an operation's failure code, None for a success code."""
    try:
        if not Hresult(hresult).is_failure:
            return None
    except ValueError:
        return Unexpected(f"{fact} (code 0x{hresult & 0xFFFFFFFF:08x})", hint=hint, item=item)
    return error_for(hresult, fact, hint=hint, item=item)
