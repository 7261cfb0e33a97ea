"""The command `vssemu`: a table of commands, each loaded when it is named."""

from importlib import import_module

import click

from vssemu.tools.output import ReportingGroup

COMMANDS = {
    "array": "vssemu.tools.array:array",
    "diskshadow": "vssemu.tools.diskshadow.command:diskshadow",
    "doctor": "vssemu.tools.doctor:doctor",
    "fault": "vssemu.tools.fault:fault",
    "lab": "vssemu.tools.lab:lab",
    "provider": "vssemu.tools.provider:provider",
    "trace": "vssemu.tools.trace:trace",
    "vds": "vssemu.tools.vds:vds",
    "vssadmin": "vssemu.tools.vssadmin:vssadmin",
    "writer": "vssemu.tools.writer:writer",
}
"""Name -> module and attribute: a command that is not named costs nothing to start."""


class LazyGroup(ReportingGroup):
    """A group whose commands are those of the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command; None for a name that there is not."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vssemu")
def main() -> None:
    """The Volume Shadow Copy Service (VSS) on real Linux block devices."""
