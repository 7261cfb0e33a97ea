import pytest

from tests.unit.vss.documents.samples import STOCK, STOCK_INSTANCE
from vssemu.vss.documents import selection
from vssemu.vss.documents.selection import Selection, check_included, select
from vssemu.vss.documents.writer import ComponentInfo, FileSpec, WriterMetadata
from vssemu.vss.enums import ComponentType, SourceType, UsageType
from vssemu.vss.errors import ObjectNotFound


def component(full_path: str, *volumes: str, selectable: bool = False) -> ComponentInfo:
    path, _, name = full_path.rpartition("\\")
    return ComponentInfo(
        component_type=ComponentType.FILEGROUP,
        logical_path=path or None,
        name=name,
        selectable=selectable,
        file_sets=tuple(FileSpec(path=f"{volume}:\\{name}", filespec="*") for volume in volumes),
    )


def writer(*components: ComponentInfo) -> WriterMetadata:
    return WriterMetadata(
        writer_id=STOCK,
        instance_id=STOCK_INSTANCE,
        name="W",
        usage=UsageType.USERDATA,
        source=SourceType.OTHER,
        components=components,
    )


def chosen(*components: ComponentInfo, volumes: str = "F", excluded: str = "") -> Selection:
    return select(
        writer(*components),
        is_in_set=lambda path: path[0] in volumes,
        excluded=excluded.split(),
    )


def names(components: tuple[ComponentInfo, ...]) -> list[str]:
    return [one.full_path for one in components]


TREE = (
    component("db", "F", selectable=True),
    component("db\\logs", "F"),
    component("db\\extra", "F", selectable=True),
    component("dbx", "F", selectable=True),
)


def test_a_component_brings_what_is_below_it_and_no_namesake() -> None:
    result = chosen(*TREE)
    assert names(result.explicit) == ["\\db", "\\dbx"]
    assert names(result.implicit) == ["\\db\\logs", "\\db\\extra"]
    assert result.is_included


def test_addcomponent_refuses_only_a_nonselectable_below_a_selectable() -> None:
    assert [selection.may_be_added(c, TREE) for c in TREE] == [True, False, True, True]
    below_plain = (component("a"), component("a\\b"), component("a\\b\\c", selectable=True))
    assert all(selection.may_be_added(c, below_plain) for c in below_plain)


def test_a_file_set_outside_the_set_leaves_the_component_and_those_above_out() -> None:
    tree = (*TREE[:1], component("db\\logs", "F", "G"), *TREE[2:])
    result = chosen(*tree)
    assert names(result.explicit) == ["\\db\\extra", "\\dbx"]
    assert [(o.component.full_path, o.path) for o in result.left_out] == [
        ("\\db", "G:\\logs"),
        ("\\db\\logs", "G:\\logs"),
    ]


def test_the_alternate_path_decides_the_volume() -> None:
    files = FileSpec(path="G:\\a", filespec="*", alternate_path="F:\\staged")
    one = ComponentInfo(
        component_type=ComponentType.FILEGROUP, name="a", selectable=True, file_sets=(files,)
    )
    assert names(chosen(one).explicit) == ["\\a"]
    assert selection.paths_of(one, (one,)) == ("F:\\staged",)


def test_a_top_level_nonselectable_left_out_takes_the_writer_with_it() -> None:
    result = chosen(component("must", "G"), component("may", "F", selectable=True))
    assert not result.is_included
    assert result.explicit == result.implicit == ()
    assert "\\must" in (result.writer_reason or "")


def test_a_writer_without_a_component_to_include_is_left_out() -> None:
    assert "no component" in (chosen().writer_reason or "")
    all_out = chosen(component("a", "G", selectable=True))
    assert "all of its components" in (all_out.writer_reason or "")


def test_exclusion_by_name_ignores_case_and_works_upwards() -> None:
    result = chosen(*TREE, excluded="\\DB\\Logs")
    assert names(result.explicit) == ["\\db\\extra", "\\dbx"]
    assert [o.reason for o in result.left_out] == [
        "its subcomponent \\db\\logs is left out",
        "excluded by name",
    ]


def test_paths_of_a_component_include_those_below() -> None:
    tree = (component("a", "F", "G"), component("a\\b", "H", "F"))
    assert selection.paths_of(tree[0], tree) == ("F:\\a", "G:\\a", "H:\\b", "F:\\b")


def test_a_demand_that_is_not_met_says_why() -> None:
    good = chosen(*TREE)
    check_included(good)
    check_included(good, "\\DB\\LOGS")
    with pytest.raises(ObjectNotFound, match="no such component"):
        check_included(good, "\\none")
    partial = chosen(*TREE[:3], component("dbx", "G", selectable=True))
    check_included(partial, "\\db")
    with pytest.raises(ObjectNotFound, match=r"requires G:\\dbx"):
        check_included(partial, "\\dbx")
    with pytest.raises(ObjectNotFound, match="not wholly included"):
        check_included(partial)
