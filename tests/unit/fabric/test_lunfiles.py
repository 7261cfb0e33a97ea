"""Which LUN a file is of, by its name."""

import pytest

from vssemu.fabric.loop.lunfiles import is_of, is_same_lun, lun_of
from vssemu.vss.identity import LunId

ONE = LunId("naa.6025653aaaaaaaaaaaaaaa0000000001")
OTHER = LunId("naa.6025653aaaaaaaaaaaaaaa0000000002")


@pytest.mark.parametrize(
    "path",
    [
        f"/{ONE}",
        f"/{ONE} (deleted)",
        f"/{ONE}.scratch-01ab34cd",
        f"/pool/root/luns/{ONE}/image",
        f"/luns/{ONE}/scratch (deleted)",
        f"/luns/{OTHER}/{ONE}",
    ],
)
def test_a_file_of_a_lun(path: str) -> None:
    assert lun_of(path) == ONE
    assert is_of([ONE, OTHER])(path)
    assert not is_of([OTHER])(path)
    assert is_same_lun(path)(f"/{ONE}.scratch-0")
    assert not is_same_lun(path)(f"/{OTHER}")


@pytest.mark.parametrize(
    "path", ["/pool/pool.img", f"/srv/{ONE}/pool/pool.img", f"/{ONE}0", f"/x{ONE}", f"/{ONE[:-1]}"]
)
def test_what_is_of_no_lun_may_be_any_file(path: str) -> None:
    assert lun_of(path) is None
    assert is_of([ONE])(path)
    assert is_same_lun(path)(f"/{OTHER}")
    assert is_same_lun(path)("/pool/pool.img")
