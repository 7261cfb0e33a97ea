"""The command `vssemu`."""

import click

from vssemu.tools.doctor import doctor
from vssemu.tools.lab import lab
from vssemu.tools.output import ReportingGroup


@click.group(cls=ReportingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vssemu")
def main() -> None:
    """The Volume Shadow Copy Service (VSS) on real Linux block devices."""


main.add_command(doctor)
main.add_command(lab)
