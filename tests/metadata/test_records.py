"""Chunks of records decoded on their own."""

from __future__ import annotations

from typing import Any

import pytest

from xarray_nd2 import ND2FormatError
from xarray_nd2.metadata.records import decoded_records
from xarray_nd2.metadata.tree import Oddities
from xarray_nd2.testing.variant import Tree, lite_variant

SIGNATURE = (b"\xda\xce\xbe\n \0\0\0@\0\0\0\0\0\0\0ND2 FILE SIGNATURE CHUNK NAME01!Ver3.0").ljust(
    112, b"\0"
)


@pytest.mark.parametrize(
    ("tree", "values"),
    [
        ({"Root": {"a": 5}}, {"a": 5}),
        ({"Root": {}}, {}),
        ({"Another": {"a": 5}}, {"Another": {"a": 5}}),
    ],
)
def test_values_below_the_root(tree: Tree, values: Tree) -> None:
    found = decoded_records(SIGNATURE, b"Any!", lite_variant(tree), "Root", Oddities())
    assert (found.values, found.path) == (values, "Root")


@pytest.mark.parametrize("root", ["text", 5, b"\0\1"])
def test_a_root_that_has_no_values(root: Any) -> None:
    data = lite_variant({"Root": root})
    with pytest.raises(ND2FormatError, match="the chunk 'Any!' cannot be decoded"):
        decoded_records(SIGNATURE, b"Any!", data, "Root", Oddities())
