"""The border between devicefs and the FUSE library: only FUSEError may cross it.

An exception of another kind would end the process and with it every name.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import structlog
from pyfuse3 import FUSEError

P = ParamSpec("P")
R = TypeVar("R")

_log = structlog.get_logger(__name__)


def answered(
    handler: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Make a handler raise nothing but FUSEError, and let cancellation pass.

    OSError becomes its errno; anything else is a bug, is logged, and becomes EIO.
    """

    @functools.wraps(handler)
    async def border(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except OSError as error:
            # A reader of a removed copy is told so; nothing is wrong here.
            if error.errno != errno.ESTALE:
                _log.warning("request failed", request=handler.__name__, reason=str(error))
            raise FUSEError(error.errno or errno.EIO) from error
        except Exception as error:
            _log.exception("request failed", request=handler.__name__)
            raise FUSEError(errno.EIO) from error

    return border
