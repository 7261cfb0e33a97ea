"""EXEC: a program of the user's, with the aliases in its environment.

It has our console, working directory and environment. `name.cmd` is that file if it can be
executed, else `name`: scripts written for Windows run with a Linux program in its place.
"""

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from vssemu.linux.run import Child, signal_name, spawn
from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.failures import ExitStatus, Leave, Misused
from vssemu.tools.diskshadow.session import Session

_ENDINGS: Final = frozenset({".cmd", ".bat", ".exe", ".com"})


def run(session: Session, request: requests.Exec) -> None:
    """Run a file to its end. Raises Misused for no such file, Leave when it fails."""
    file = find(session, request.file)
    if file is None:
        raise Misused("The script file name is not valid.")
    session.console.flush()
    environment = session.aliases.environment()
    try:
        child = _start(file, environment)
    except OSError as error:
        raise Leave(
            f"{request.file} cannot be run: {error.strerror}.", status=ExitStatus.FAILED
        ) from error
    status = _wait(child)
    if status:
        how = f"exit status {status}" if status > 0 else signal_name(-status)
        raise Leave(f"The script {request.file} failed: {how}.", status=ExitStatus.FAILED)


def find(session: Session, text: str) -> Path | None:
    """Return the program that a file name means, None when there is none.

    A bare name is looked for in the working directory, then along PATH.
    """
    named = session.roots.linux(text)
    candidates = [named]
    if named.suffix.lower() in _ENDINGS:
        candidates.append(named.with_suffix(""))
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    if any(mark in text for mark in "\\/:"):
        return None
    search = session.environment.get("PATH")
    found = (shutil.which(candidate.name, path=search) for candidate in candidates)
    return next((Path(each) for each in found if each is not None), None)


def _start(file: Path, environment: dict[str, str]) -> Child:
    try:
        return spawn([str(file)], env=environment, stdin=None)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without an interpreter line, as people bring from Windows.
    return spawn(["/bin/sh", str(file)], env=environment, stdin=None)


def _wait(child: Child) -> int:
    """Wait for the end. Ctrl-C reaches the program too; it is waited for before we act on it."""
    try:
        return child.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        child.wait()
        raise
