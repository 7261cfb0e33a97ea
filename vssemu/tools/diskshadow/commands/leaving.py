"""RESET, HELP and EXIT."""

from vssemu.tools.diskshadow import grammar, requests
from vssemu.tools.diskshadow.failures import Leave
from vssemu.tools.diskshadow.session import Session


def reset(session: Session, _request: requests.Reset) -> None:
    """Forget everything; prints nothing."""
    session.reset()


def show_help(session: Session, _request: requests.Help) -> None:
    """List the commands."""
    session.console.lines(grammar.overview())


def leave(_session: Session, _request: requests.Exit) -> None:
    """End the program."""
    raise Leave
