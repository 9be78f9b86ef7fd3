"""Values of metadata that may be missing, or of another kind than they should be."""

from __future__ import annotations

from typing import Any

import pytest

from tests.metadata.trees import branch, listed
from xarray_nd2.metadata.tree import Branch, Oddities

VALUES: dict[str, Any] = {
    "text": "a",
    "whole": -3,
    "number": 2.5,
    "flag": True,
    "nan": float("nan"),
    "inf": float("inf"),
    "large": 2**63 + 5,
    "enormous": 1e300,
    "branch": {"inside": 1},
    "bytes": [1, 0, 255],
    "none": None,
}


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("number", {"whole": -3.0, "number": 2.5, "large": float(2**63 + 5)}),
        ("whole", {"whole": -3}),
        ("flag", {"flag": True}),
        ("text", {"text": "a"}),
        ("bytes_of", {"bytes": b"\x01\x00\xff"}),
    ],
)
def test_only_values_of_the_kind_are_taken(kind: str, taken: dict[str, Any]) -> None:
    for name, value in VALUES.items():
        part = branch(**VALUES)
        found = getattr(part, kind)(name)
        assert found == taken.get(name), name
        assert type(found) is type(taken.get(name))
        expected = "" if name in taken or value is None else f"part/{name} is not what it should be"
        assert str(part.oddities) == expected


def test_what_is_missing_is_odd_only_where_it_is_needed() -> None:
    part = branch(a=1)
    assert part.number("b") is None
    assert not part.oddities
    assert part.number("b", needed=True) is None
    assert str(part.oddities) == "part/b is missing"


def test_flags_of_every_encoding() -> None:
    part = branch(lite=[1, 0, 1], xml={"_01": False, "_00": True}, raw=bytearray(b"\1\0"), odd="x")
    assert part.flags("lite") == [True, False, True]
    assert part.flags("xml") == [True, False]
    assert part.flags("raw") == [True, False]
    assert part.flags("odd") is None


def test_notes_tell_the_way_to_a_value_and_are_few() -> None:
    oddities = Oddities()
    root = Branch({"planes": listed({"a": "x"}, {"a": "y"})}, "picture", oddities)
    for plane in root.below("planes").branches():
        assert plane.number("a") is None
    assert str(oddities) == "picture/planes/a is not what it should be"
    for number in range(200):
        oddities.note(f"{number}")
    assert str(oddities).endswith("2; 3; and 95 more")


def test_anything_but_a_mapping_is_an_empty_branch() -> None:
    for value in (None, 5, "text", [1], b""):
        part = branch(below=value)
        assert not part.below("below")
        assert part.below("below").branches() == []


def test_names_without_prefixes() -> None:
    part = branch(m_sLabel="a", m_vect2PerMPoint_Size=1, m_0=0, x=2, Id=3, m_uiId=4, i0000000000=5)
    values = {"Label": "a", "2PerMPoint_Size": 1, "0": 0, "x": 2, "Id": 3, "i0000000000": 5}
    assert part.unprefixed().values == values


def test_numbered_branches() -> None:
    items = {f"A_{number}": {"n": number} for number in (10, 2, 0)}
    part = branch(**items, A_Size=3, A_x={}, B_0={})
    assert [(number, each.whole("n")) for number, each in part.numbered("A_")] == [
        (0, 0),
        (2, 2),
        (10, 10),
    ]
    assert str(part.oddities) == "part/A_ is not numbered in a row"
    part = branch(A_0={}, A_1={}, A_Size=2)
    assert [number for number, _ in part.numbered("A_")] == [0, 1]
    assert not part.oddities
    assert branch().numbered("A_") == []
