"""`MODULE:CLASS` on a command line: the class that a runner is to run."""

import importlib
import sys
from pathlib import Path
from typing import Any

from vssemu.vss.errors import InvalidArgument


def load_class(name: str) -> type[Any]:
    """Return the class that `module:Class` names; modules of the current directory count.

    Raises InvalidArgument when there is no such class, or the module cannot be imported.
    """
    module_name, separator, class_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if not separator:
            raise ImportError("there is no colon in it")
        found = getattr(importlib.import_module(module_name), class_name, None)
    except Exception as error:  # a module may raise anything while it is imported
        raise _refused(name, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, type):
        raise _refused(name, f"module {module_name} has no class {class_name}")
    return found


def _refused(name: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{name!r}: {why}", hint="give package.module:Class", item=name)
