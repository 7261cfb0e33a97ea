"""What comes out of the host when the kernel or a program fails."""

from vssemu.host.border import vss_error
from vssemu.linux.run import ProgramFailed
from vssemu.vss.hresult import Hresult


def test_a_failed_program_tells_its_own_words_in_one_line() -> None:
    failed = ProgramFailed(["mkfs.ext4", "/dev/loop7"], 1, "mkfs.ext4: No space left\nwhile x\n")
    told = vss_error(failed, "create_volume")
    assert told.hresult == Hresult.E_FAIL
    assert "No space left while x" in str(told)
    assert "\n" not in str(told)
