r"""The pytest plugin: a lab for a test session, and its hosts.

    def test_a_backup(system_one, system_two):
        with system_one.connect() as vss, vss.backup_components() as backup:
            ...
        assert system_two.path(device_object).joinpath("data").is_dir()

Settings (in pytest's own configuration, or `-o NAME=VALUE`): `vss_lab_hosts`,
`vss_lab_volumes`, `vss_lab_engine`; or a session fixture `vss_lab_description` of one's own,
which returns the fields of a lab file as a dict. `--vss-lab NAME` uses a lab that runs. Where
the machine cannot carry a lab the tests are skipped, or fail with `--vss-lab-required`.

pytest loads this module in every session, so that it imports nothing before it is used.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vssemu.conformance.hosts import VssHost, VssLab


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and settings."""
    group = parser.getgroup("vssemu", "labs for tests of backup software")
    group.addoption(
        "--vss-lab", metavar="NAME", help="use this running lab instead of one of the session"
    )
    group.addoption(
        "--vss-lab-required",
        action="store_true",
        help="fail, instead of skipping, where the machine cannot carry a lab",
    )
    parser.addini(
        "vss_lab_hosts", "hosts of the lab", type="args", default=["systemOne", "systemTwo"]
    )
    parser.addini(
        "vss_lab_volumes",
        "volumes of the lab, as `vssemu lab up --volume` takes them",
        type="args",
        default=["F:=256M"],
    )
    parser.addini(
        "vss_lab_engine", "snapshot engine of the lab's array: reflink or cow", default="reflink"
    )


@pytest.fixture(scope="session")
def vss_lab_description(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Return the fields of the session's lab, as a lab file has them; made to be overridden."""
    return {
        field: pytestconfig.getini(f"vss_lab_{field}") for field in ("hosts", "volumes", "engine")
    }


@pytest.fixture(scope="session")
def vss_lab(
    pytestconfig: pytest.Config, vss_lab_description: dict[str, Any]
) -> Iterator["VssLab"]:
    """Give the lab of this session; with pytest-xdist, of this worker."""
    from vssemu.conformance import labs

    name = pytestconfig.getoption("--vss-lab")
    if name is not None:
        yield labs.running(name)
        return
    if why := labs.lacks():
        if pytestconfig.getoption("--vss-lab-required"):
            pytest.fail(f"no lab can be had here: {why}", pytrace=False)
        pytest.skip(f"no lab can be had here: {why}")
    with labs.of_session(vss_lab_description) as lab:
        yield lab


@pytest.fixture
def system_one(vss_lab: "VssLab") -> Iterator["VssHost"]:
    """Give the lab's first host, switched on."""
    with vss_lab.in_use(0) as host:
        yield host


@pytest.fixture
def system_two(vss_lab: "VssLab") -> Iterator["VssHost"]:
    """Give the lab's second host, switched on."""
    with vss_lab.in_use(1) as host:
        yield host
