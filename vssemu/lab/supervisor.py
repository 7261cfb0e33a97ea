"""Talking to the control socket of a supervisor (`vssemu.daemons.init`)."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vssemu.vss.errors import Fail


class SupervisorGone(Fail):
    """Nobody listens on the control socket, or it closed: the supervisor does not run."""


def request(path: Path, fields: Mapping[str, object], *, seconds: float = 10.0) -> dict[str, Any]:
    """Send one request and return the answer.

    Raises SupervisorGone when nobody answers, Fail with the supervisor's own words when it
    refuses or does not answer in time.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            connection.sendall(json.dumps(fields).encode() + b"\n")
            line = connection.makefile("rb").readline()
    except TimeoutError as error:
        raise Fail(f"the supervisor at {path} gave no answer in {seconds:g} s") from error
    except OSError as error:
        raise SupervisorGone(f"no supervisor at {path}: {error.strerror}") from error
    if not line:
        raise SupervisorGone(f"the supervisor at {path} closed the connection")
    answer: dict[str, Any] = json.loads(line)
    if not answer.pop("ok"):
        raise Fail(f"{fields['op']}: {answer['error']}", item=str(fields.get("name", "")) or None)
    return answer


def wait_ready(path: Path, service: str, *, seconds: float) -> None:
    """Return when a service says that it serves. Raises Fail, SupervisorGone."""
    request(path, {"op": "wait", "name": service, "seconds": seconds}, seconds=seconds + 5)


def services(path: Path) -> dict[str, dict[str, Any]]:
    """Return the facts of every service by name. Raises SupervisorGone."""
    return {s["name"]: s for s in request(path, {"op": "status"})["services"]}


def answers(path: Path) -> bool:
    """Tell whether a supervisor answers on its socket; a socket that is there may not yet."""
    try:
        services(path)
    except SupervisorGone:
        return False
    return True
