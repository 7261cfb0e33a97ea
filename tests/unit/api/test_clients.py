"""Both clients offer every requester method, from one table."""

import inspect

from vssemu.api import blocking, trio_client
from vssemu.api import requester as table

_OF_THE_OBJECT = {
    method.function_name for method in table.requester.methods.values() if method.scoped
}
# Status lists are returned by the methods that gather them.
_FOLDED = {"writer_status"}


def _methods(cls: type) -> set[str]:
    return {
        name
        for name, value in vars(cls).items()
        if isinstance(value, (blocking.Method, blocking.Operation))
        or type(value).__name__ in {"Method", "Operation"}
    }


def test_the_blocking_client_has_every_method_of_the_table() -> None:
    assert _methods(blocking.BackupComponents) >= _OF_THE_OBJECT - _FOLDED


def test_both_clients_have_the_same_methods() -> None:
    assert _methods(blocking.BackupComponents) == _methods(trio_client.BackupComponents)


def test_every_method_of_a_client_has_a_docstring() -> None:
    for cls in (blocking.BackupComponents, trio_client.BackupComponents):
        for name in _methods(cls):
            assert inspect.getattr_static(cls, name).__doc__, name
