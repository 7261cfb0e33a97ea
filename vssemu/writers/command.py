"""A writer whose freeze and thaw are programs.

    pre_freeze    on Freeze: the application is to stand still when it ends with status 0
    post_thaw     on Thaw
    abort         on Abort, if pre_freeze was started; post_thaw when no abort program is given

Programs get `VSSEMU_EVENT`, `VSSEMU_SNAPSHOT_SET_ID` and `VSSEMU_VOLUMES` (names, one a line).
Each has a time limit, at which it is killed with all processes of its group; one that put
itself into a group of its own is not. A status other than 0 is VSS_E_WRITERERROR_RETRYABLE,
the limit VSS_E_WRITERERROR_TIMEOUT; the last words of its error stream go into the message.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID

import structlog
import trio

from vssemu.linux import run
from vssemu.vss import drives
from vssemu.vss.documents.wmdbuilder import WriterMetadataBuilder
from vssemu.vss.documents.writer import ComponentInfo, FileSpec, RestoreInfo
from vssemu.vss.enums import BackupSchema, ComponentType, RestoreMethod, WriterRestore
from vssemu.vss.errors import InvalidArgument, WriterErrorRetryable, WriterErrorTimeout
from vssemu.vss.identity import WriterId, parse_guid
from vssemu.writers.base import Writer

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PROGRAM_SECONDS: Final = 30.0
"""Time limit of each program; half the freeze limit, so that Freeze and Thaw both fit."""

_WORDS_BYTES: Final = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandPath:
    r"""Files of the application. path: a directory, `F:\data` or a Linux path."""

    path: str
    filespec: str = "*"
    recursive: bool = True


class CommandWriter(Writer):
    """Stops and starts an application by programs.

    pre_freeze, post_thaw, abort: argument lists. component: the name of the one component.
    paths: its files. limit: seconds, for each program.
    Raises InvalidArgument without programs or without a positive limit.
    """

    writer_id = WriterId(UUID("c1f5a0b4-3a57-4f0e-9b8d-7d2f64e1b9aa"))
    name = "Command Writer"

    def __init__(
        self,
        *,
        pre_freeze: Sequence[str],
        post_thaw: Sequence[str],
        abort: Sequence[str] = (),
        limit: float = PROGRAM_SECONDS,
        component: str = "application",
        paths: Sequence[CommandPath] = (),
        instance_name: str | None = None,
    ) -> None:
        if not pre_freeze or not post_thaw or not limit > 0:
            raise InvalidArgument(
                "CommandWriter: pre_freeze, post_thaw and a positive limit are needed",
                hint="give both programs as argument lists",
            )
        self.instance_name = instance_name
        self._pre_freeze = tuple(pre_freeze)
        self._post_thaw = tuple(post_thaw)
        self._abort = tuple(abort) or self._post_thaw
        self._limit = limit
        self._component = component
        self._paths = tuple(paths)
        self._is_stopped = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a writer made from a TOML table.

        Keys: the arguments; paths is a list of tables with the fields of CommandPath;
        writer_id.
        """
        table = dict(config)
        writer_id = table.pop("writer_id", None)
        table["paths"] = [CommandPath(**one) for one in table.get("paths", ())]
        writer = cls(**table)
        if writer_id is not None:
            writer.writer_id = WriterId(parse_guid(writer_id))
        return writer

    def on_identify(self, metadata: WriterMetadataBuilder) -> None:
        """Describe the one component."""
        metadata.set_backup_schema(BackupSchema.COPY)
        metadata.set_restore_method(
            RestoreInfo(
                method=RestoreMethod.RESTORE_IF_CAN_REPLACE, writer_restore=WriterRestore.NEVER
            )
        )
        files = (
            FileSpec(
                path=drives.windows_path(one.path), filespec=one.filespec, recursive=one.recursive
            )
            for one in self._paths
        )
        metadata.add_component(
            ComponentInfo(
                component_type=ComponentType.FILEGROUP,
                name=self._component,
                selectable=True,
                selectable_for_restore=True,
                file_sets=tuple(files),
            )
        )

    def on_prepare_snapshot(self) -> None:
        """Nothing: the programs stand for Freeze and Thaw."""

    async def on_freeze(self) -> None:
        """Run pre_freeze."""
        # A program that fails half-way has perhaps stopped half of the application.
        self._is_stopped = True
        await self._run(self._pre_freeze)

    async def on_thaw(self) -> None:
        """Run post_thaw; when it fails Abort comes, and with it the abort program."""
        await self._run(self._post_thaw)
        self._is_stopped = False

    async def on_abort(self) -> None:
        """Run the abort program if the application may be stopped."""
        if self._is_stopped:
            await self._run(self._abort)
            self._is_stopped = False

    async def _run(self, argv: Sequence[str]) -> None:
        """Run a program to its end. Raises WriterErrorRetryable, WriterErrorTimeout."""
        words = os.memfd_create("words", os.MFD_CLOEXEC)
        try:
            status = await self._status(argv, words)
            if status != 0:
                how = f"status {status}" if status > 0 else run.signal_name(-status)
                raise WriterErrorRetryable(
                    f"{argv[0]}: ended with {how}{_said(words)}",
                    hint="see the program's own messages",
                    item=argv[0],
                )
        except TimeoutError:
            raise WriterErrorTimeout(
                f"{argv[0]}: still running after {self._limit:g} s, killed{_said(words)}",
                hint="make it quicker, or give it a longer limit",
                item=argv[0],
            ) from None
        finally:
            os.close(words)

    async def _status(self, argv: Sequence[str], words: int) -> int:
        """Return the exit status, negative for a signal. Raises TimeoutError at the limit."""
        try:
            child = run.spawn(
                argv,
                env=self._environment(),
                stdout=words,
                stderr=words,
                process_group=0,
            )
        except OSError as error:
            raise WriterErrorRetryable(f"{argv[0]}: {error.strerror}", item=argv[0]) from error
        pidfd = os.pidfd_open(child.pid)
        has_ended = False
        try:
            with trio.move_on_after(self._limit):
                await trio.lowlevel.wait_readable(pidfd)
                has_ended = True
        finally:
            os.close(pidfd)
            # Not reaped yet, so its number, and with it the group's, is still its own.
            if not has_ended:
                os.killpg(child.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                status = await trio.to_thread.run_sync(child.wait)
        if not has_ended:
            raise TimeoutError(argv[0])
        return status

    def _environment(self) -> Mapping[str, str]:
        occasion = self.occasion
        assert occasion is not None, "programs run in callbacks alone"
        return {
            "VSSEMU_EVENT": occasion.event.kind.value,
            "VSSEMU_SNAPSHOT_SET_ID": self.current_snapshot_set_id or "",
            "VSSEMU_VOLUMES": "\n".join(self.current_volumes),
        }


def _said(words: int) -> str:
    """Return the last line that a program wrote, as the end of a sentence."""
    length = os.fstat(words).st_size
    text = os.fsdecode(os.pread(words, _WORDS_BYTES, max(0, length - _WORDS_BYTES)))
    lines = text.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last}" if last else ""
