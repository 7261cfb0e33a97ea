"""How a command of the script ends when it does not end well, and the exit statuses.

    CommandEnd
      Misused        the command line is wrong: a line, then the help block; status 1
      Failed         it could not be done: lines; status 2
      Leave          EXIT, QUIT, or what ends the program: carries the status

Source: tools.md A.3; the statuses follow VShadow's (B.11), where DiskShadow's are unknown.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from vssemu.rpc.errors import RpcError
from vssemu.tools.output import describe
from vssemu.vss.errors import VssError


class ExitStatus(IntEnum):
    """What the program leaves its caller."""

    OK = 0
    USAGE = 1
    FAILED = 2


class CommandEnd(Exception):
    """A command that ended otherwise than by being done."""

    status = ExitStatus.FAILED

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines


class Misused(CommandEnd):
    """The words of the command make no sense; its help block follows the lines."""

    status = ExitStatus.USAGE


class Failed(CommandEnd):
    """The command made sense and could not be done."""


class Leave(CommandEnd):
    """The program is to end now, in interactive mode too."""

    def __init__(self, *lines: str, status: ExitStatus = ExitStatus.OK) -> None:
        super().__init__(*lines)
        self.status = status


@contextmanager
def calling(expression: str) -> Iterator[None]:
    """Turn the failure of a VSS call into the two lines that DiskShadow's users know.

    expression: the call, as the line names it.
    """
    try:
        yield
    except (VssError, RpcError, OSError) as error:
        raise call_failed(expression, describe(error)) from error


def call_failed(expression: str, why: str) -> Failed:
    """Return the failure of a VSS call: a blank line, the call, and why."""
    return Failed("", f'COM call "{expression}" failed.', why)
