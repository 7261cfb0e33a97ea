"""SET: context, options, metadata file, verbose; nothing here asks the service."""

from vssemu.tools.diskshadow import requests
from vssemu.tools.diskshadow.parsing import OPTIONS
from vssemu.tools.diskshadow.session import Session
from vssemu.vss.attributes import Context

_CONTEXT_WORDS = {
    Context.CLIENT_ACCESSIBLE: "CLIENTACCESSIBLE",
    Context.APP_ROLLBACK: "PERSISTENT",
    Context.NAS_ROLLBACK: "PERSISTENT NOWRITERS",
    Context.BACKUP: "VOLATILE",
    Context.FILE_SHARE_BACKUP: "VOLATILE NOWRITERS",
}


def show(session: Session, _request: requests.ShowSettings) -> None:
    """List all settings."""
    settings = session.settings
    options = [word.upper() for word, bit in OPTIONS.items() if bit in settings.options]
    session.console.lines(
        [
            f"Context:  {_CONTEXT_WORDS[settings.context]}",
            f"Options:  {' '.join(options) or 'none'}",
            f"Verbose:  {'ON' if settings.is_verbose else 'OFF'}",
            f"Metadata: {settings.metadata or 'a new file in the working directory'}",
        ]
    )


def set_context(session: Session, request: requests.SetContext) -> None:
    """Replace the context."""
    session.settings.context = request.context


def set_option(session: Session, request: requests.SetOption) -> None:
    """Replace the options."""
    session.settings.options = request.options


def set_metadata(session: Session, request: requests.SetMetadata) -> None:
    """Name the metadata file; one that is there is not touched before CREATE is done."""
    path = session.roots.linux(request.path)
    session.settings.metadata = path
    if path.exists():
        session.console.line("The existing file will be overwritten.")


def set_verbose(session: Session, request: requests.SetVerbose) -> None:
    """Switch details on or off."""
    session.settings.is_verbose = request.is_on
