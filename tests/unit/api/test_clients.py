"""Both clients offer every requester method, from one table."""

import inspect
import subprocess
import sys

import pytest

import vssemu
import vssemu.trio
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


@pytest.mark.parametrize("name", sorted(_methods(blocking.BackupComponents)))
def test_a_method_takes_the_same_arguments_in_both_clients(name: str) -> None:
    ours = inspect.getattr_static(blocking.BackupComponents, name)
    theirs = inspect.getattr_static(trio_client.BackupComponents, name)
    assert type(ours).__name__ == type(theirs).__name__
    if isinstance(ours, blocking.Operation):
        assert ours.method is theirs.method
    else:
        assert inspect.signature(ours.plan) == inspect.signature(theirs.plan)
        assert inspect.unwrap(ours.plan).__code__ is inspect.unwrap(theirs.plan).__code__


@pytest.mark.parametrize("name", ["Async", "BoundOperation", "Vss"])
def test_the_other_classes_have_the_same_methods_too(name: str) -> None:
    def methods(cls: type) -> dict[str, str]:
        return {
            each: str(inspect.signature(value).replace(return_annotation=inspect.Signature.empty))
            for each, value in vars(cls).items()
            if inspect.isfunction(value) and not each.startswith("_")
        }

    ours, theirs = methods(getattr(blocking, name)), methods(getattr(trio_client, name))
    ours.pop("close", None)  # the trio client is a block alone
    assert ours == theirs
    assert ours or name == "Vss"


def test_both_facades_connect_by_the_same_arguments() -> None:
    ours, theirs = inspect.signature(vssemu.connect), inspect.signature(vssemu.trio.connect)
    assert ours.parameters == theirs.parameters


def test_the_facade_has_every_name_it_promises_and_no_other() -> None:
    for name in vssemu.__all__:
        assert getattr(vssemu, name) is not None
    assert set(vssemu.__all__) <= set(dir(vssemu))
    with pytest.raises(AttributeError, match="no_such_name"):
        vssemu.no_such_name  # noqa: B018


def test_importing_the_package_alone_loads_nothing_heavy() -> None:
    """Whoever has vssemu beside other things, as pytest has, does not pay for it."""
    code = "import sys, vssemu; print(*sorted(m for m in sys.modules if m.startswith('vssemu')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vssemu"]


def test_every_method_of_a_client_has_a_docstring() -> None:
    for cls in (blocking.BackupComponents, trio_client.BackupComponents):
        for name in _methods(cls):
            assert inspect.getattr_static(cls, name).__doc__, name
