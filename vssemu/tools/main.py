"""The command `vssemu`."""

import click

from vssemu.tools.array import array
from vssemu.tools.diskshadow.command import diskshadow
from vssemu.tools.doctor import doctor
from vssemu.tools.lab import lab
from vssemu.tools.output import ReportingGroup
from vssemu.tools.provider import provider
from vssemu.tools.vds import vds
from vssemu.tools.vssadmin import vssadmin
from vssemu.tools.writer import writer


@click.group(cls=ReportingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vssemu")
def main() -> None:
    """The Volume Shadow Copy Service (VSS) on real Linux block devices."""


main.add_command(doctor)
main.add_command(lab)
main.add_command(array)
main.add_command(provider)
main.add_command(writer)
main.add_command(vds)
main.add_command(vssadmin)
main.add_command(diskshadow)
