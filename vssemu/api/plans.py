"""What each requester method does on the wire, for both clients at once.

A plan is a generator: it yields calls, is sent their results, and returns the method's
result. `vssemu.api.blocking` and `vssemu.api.trio_client` only run plans.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from vssemu.api import errors
from vssemu.api import requester as table
from vssemu.rpc.errors import RpcError
from vssemu.rpc.interface import Method
from vssemu.vss.documents.wmd import WriterMetadataDocument
from vssemu.vss.documents.writer import ComponentInfo
from vssemu.vss.errors import BadState
from vssemu.vss.hresult import Hresult
from vssemu.vss.writer import WriterStatus

P = ParamSpec("P")
R = TypeVar("R")

WAIT_SLICE_MS = 10_000
"""One Wait on the wire lasts no longer than this, so that a client notices a dead service."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call on the wire; the plan is sent its result."""

    method: Method[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)


Plan = Generator[Call, Any, R]


@dataclass(frozen=True, kw_only=True)
class ExaminedWriter:
    """A gathered writer: its metadata document, and what a requester reads from it."""

    metadata: table.WriterMetadata
    document: WriterMetadataDocument

    @property
    def name(self) -> str:
        """The writer's name."""
        return self.metadata.name

    @property
    def components(self) -> tuple[ComponentInfo, ...]:
        """The writer's components, in document order."""
        return tuple(self.document.metadata.components)

    def save_as_xml(self) -> str:
        """Return the Writer Metadata Document (IVssExamineWriterMetadata::SaveAsXML)."""
        return self.metadata.document


def plain(method: Method[P, R]) -> Callable[P, Plan[R]]:
    """Return the plan that makes one call of `method`."""

    @wraps(_named(method))
    def plan(*args: P.args, **kwargs: P.kwargs) -> Plan[R]:
        result: R = yield Call(method, args, kwargs)
        return result

    return plan


def _named(method: Method[P, R]) -> Callable[P, None]:
    def named(*args: P.args, **kwargs: P.kwargs) -> None: ...

    named.__name__ = method.function_name
    named.__doc__ = method.doc
    return named


def check(status: table.OperationStatus) -> Hresult:
    """Return the success code of an ended operation. Raises the error it ended with."""
    if error := errors.status_error(status.hresult, status.fact, status.hint, status.item):
        raise error
    return Hresult(status.hresult)


def waited(operation: str, timeout: float | None = None) -> Plan[Hresult]:
    """Wait until an operation ended, or `timeout` seconds; return how it stands."""
    left = None if timeout is None else int(timeout * 1000)
    while True:
        slice_ms = WAIT_SLICE_MS if left is None else min(left, WAIT_SLICE_MS)
        status: table.OperationStatus = yield Call(table.wait, (operation, slice_ms))
        if status.hresult != Hresult.VSS_S_ASYNC_PENDING:
            return check(status)
        if left is not None:
            left -= slice_ms
            if left <= 0:
                return Hresult.VSS_S_ASYNC_PENDING


def operation(method: Method[P, str]) -> Callable[P, Plan[Hresult]]:
    """Return the plan that begins an asynchronous method and waits for its end."""
    begin = plain(method)

    def plan(*args: P.args, **kwargs: P.kwargs) -> Plan[Hresult]:
        name = yield from begin(*args, **kwargs)
        return (yield from waited(name))

    return plan


def writer_metadata() -> Plan[list[ExaminedWriter]]:
    """Return the writers gathered last."""
    found: list[table.WriterMetadata] = yield Call(table.writer_metadata, ())
    return [
        ExaminedWriter(metadata=one, document=WriterMetadataDocument.parse(one.document))
        for one in found
    ]


def gather_writer_metadata() -> Plan[list[ExaminedWriter]]:
    """Ask every writer to identify itself; return those that did."""
    yield from operation(table.gather_writer_metadata)()
    return (yield from writer_metadata())


def gather_writer_status() -> Plan[list[WriterStatus]]:
    """Ask for the state of every writer that identified itself; return the states."""
    yield from operation(table.gather_writer_status)()
    status: list[WriterStatus] = yield Call(table.writer_status, ())
    return status


def add_component(writer: ExaminedWriter, component: ComponentInfo) -> Plan[None]:
    """Include one of a gathered writer's components explicitly."""
    yield Call(table.add_component, _component(writer, component))


def set_backup_succeeded(
    writer: ExaminedWriter, component: ComponentInfo, succeeded: bool
) -> Plan[None]:
    """Record whether an explicitly included component was backed up."""
    yield Call(table.set_backup_succeeded, (*_component(writer, component), succeeded))


def _component(writer: ExaminedWriter, component: ComponentInfo) -> tuple[Any, ...]:
    return (
        writer.metadata.instance_id,
        writer.metadata.writer_id,
        component.component_type,
        component.logical_path,
        component.name,
    )


def opened() -> Plan[str]:
    """Open a session."""
    session: str = yield Call(table.open, ())
    return session


def left_by_exception() -> Plan[None]:
    """Abort what is under way, then release: what leaving the block by an exception does.

    With a service that is gone both are done already, and the block's own exception counts.
    """
    with contextlib.suppress(RpcError):
        with contextlib.suppress(BadState):
            yield Call(table.abort_backup, ())
        yield Call(table.release, ())
