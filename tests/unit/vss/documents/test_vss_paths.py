from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vss.documents.samples import VOLUME, copy_properties
from vssemu.vss.errors import InvalidArgument, ObjectNotFound
from vssemu.vss.paths import CopiedVolume, copied_volume, copy_of, matches, path_in

DEVICE = "/run/vssemu/GLOBALROOT/Device/HarddiskVolumeShadowCopy3"
COPY = copied_volume(copy_properties(DEVICE), letter="f", names=["C:\\mnt\\logs\\"])


def test_a_copied_volume_has_all_names_of_its_original() -> None:
    assert (
        CopiedVolume(names=(VOLUME, "C:\\mnt\\logs\\", "F:\\", "/mnt/F"), device_object=DEVICE)
        == COPY
    )
    from_manifest = copied_volume(copy_properties(DEVICE), names=["F:\\"])
    assert from_manifest.names == (VOLUME, "F:\\", "/mnt/F")


def test_a_copy_that_is_not_on_this_host_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no device object"):
        copied_volume(copy_properties())


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("F:\\data\\a.db", "/data/a.db"),
        ("f:/data\\Sub Dir/", "/data/Sub Dir"),
        ("F:\\", ""),
        ("F:", ""),
        (VOLUME + "data", "/data"),
        (VOLUME.upper().replace("\\\\?\\VOLUME", "\\\\?\\Volume") + "Data", "/Data"),
        ("\\\\?\\F:\\data", "/data"),
        ("/mnt/F/data/x", "/data/x"),
        ("/mnt/F//./data/", "/data"),
        ("/mnt/F", ""),
        ("/mnt/F/back\\slash", "/back\\slash"),
        ("c:\\MNT\\Logs\\a.log", "/a.log"),
        ("F:\\100%", "/100%"),
        ("F:\\..data\\...", "/..data/..."),
    ],
)
def test_a_path_of_the_originating_host_is_found_in_the_copy(path: str, rest: str) -> None:
    assert path_in(COPY, path) == DEVICE + rest


@pytest.mark.parametrize(
    "path", ["G:\\data", "C:\\mnt", "C:\\mnt\\logs2", "/mnt/f/data", "/mnt/FF/data", "/"]
)
def test_a_path_on_another_volume_is_not_found(path: str) -> None:
    with pytest.raises(ObjectNotFound, match="not on the volume"):
        path_in(COPY, path)


@pytest.mark.parametrize(
    "path",
    [
        "F:\\..\\etc",
        "/mnt/F/../../etc/passwd",
        "F:/a/../../b",
        "F:data",
        "data",
        "",
        "\\data",
        "\\\\server\\share\\x",
        "\\\\?\\UNC\\server\\x",
        "%ProgramData%\\Stock",
        "F:\\%x%\\y",
        "F:\\a\0b",
    ],
)
def test_a_path_that_cannot_be_placed_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument, match="path"):
        path_in(COPY, path)


@given(st.text(alphabet="F:\\/.%a?{}\0 -", max_size=30) | st.text(max_size=30))
def test_no_path_leads_out_of_the_copy(path: str) -> None:
    for prefix in ("", "F:\\", "/mnt/F/", VOLUME):
        try:
            found = path_in(COPY, prefix + path)
        except (InvalidArgument, ObjectNotFound):
            continue
        assert found == DEVICE or found.startswith(DEVICE + "/")
        assert ".." not in found[len(DEVICE) :].split("/")
        assert "\0" not in found


def test_the_longest_name_decides_between_copies() -> None:
    drive_c = CopiedVolume(names=("C:\\", "/"), device_object="/c")
    assert copy_of([drive_c, COPY], "C:\\mnt\\logs\\a") is COPY
    assert copy_of([COPY, drive_c], "C:\\mnt\\a") is drive_c
    assert copy_of([drive_c, COPY], "/mnt/F/a") is COPY
    assert copy_of([drive_c, COPY], "/mnt/a") is drive_c
    assert copy_of([COPY], "X:\\a") is None
    assert copy_of([], "X:\\a") is None


def test_an_odd_name_of_a_volume_matches_nothing() -> None:
    odd = replace(COPY, names=("", "nothing", "\\\\server\\share"))
    with pytest.raises(ObjectNotFound):
        path_in(odd, "F:\\a")


@pytest.mark.parametrize(
    ("spec", "name", "fits"),
    [
        ("*", "a.b", True),
        ("*", "", True),
        ("*.*", "no_dot", True),
        ("*.log", "A.LOG", True),
        ("*.log", "a.log.gz", False),
        ("Perfc???.dat", "perfc009.DAT", True),
        ("Perfc???.dat", "perfc09.dat", False),
        ("a*b*c", "aXbYbZc", True),
        ("a*b*c", "aXbYbZ", False),
        ("[a]", "a", False),
        ("[a]", "[A]", True),
        ("Ä?", "äb", True),
        ("", "a", False),
        ("", "", True),
        ("?", "", False),
        ("straße", "STRASSE", False),
    ],
)
def test_a_file_specification_matches_as_on_windows(spec: str, name: str, fits: bool) -> None:
    assert matches(spec, name) is fits


@given(st.text(alphabet="ab", max_size=30))
def test_a_name_matches_itself_and_its_patterns(name: str) -> None:
    assert matches(name, name.upper())
    assert matches("?" * len(name), name)
    assert matches("*" + name[len(name) // 2 :], name)
    assert matches(name[: len(name) // 2] + "*", name)
    assert not matches("?" * (len(name) + 1), name)


def test_many_stars_do_not_take_for_ever() -> None:
    assert not matches("*a" * 200 + "b", "a" * 2000)
