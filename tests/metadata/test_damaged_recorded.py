"""Damage to the recorded data costs the columns that it is in, with a warning or an error of ours."""

from __future__ import annotations

import io
import re
import tracemalloc
import warnings
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests.metadata.damaged import PLACES, TIMES, chunks_of, variants, with_chunks
from tests.metadata.test_recorded import COLUMNS, DESCRIPTION, opened, recorded_file
from xarray_nd2 import ND2FormatError

if TYPE_CHECKING:
    from tests.metadata.damaged import Variant

# What is wrong in these goes no further than the name or the unit of the column.
NAMING_KEYS = {"Desc", "Unit"}
UNUSED_KEYS = {"Group", "Size"}
# Elements of XML for which nd2 does not decode the chunk that they are in.
UNDECODABLE = {"no value", "number that is none"}
UNKNOWN = {"deleted", "empty level", "no type", "unknown type"}
MAX_EXTRA_BYTES = 2**26
EXAMINED_ONE_IN = 3  # of the damages of a key, of which there are 17


@cache
def intact_file() -> bytes:
    return recorded_file(timestamps=np.arange(12) * 0.5).getvalue()


@cache
def intact_columns() -> dict[str, Any]:
    return columns_of(opened(timestamps=np.arange(12) * 0.5))


@cache
def damaged() -> list[Variant]:
    every = variants(intact_file(), every=EXAMINED_ONE_IN)
    return [v for v in every if v.part in (PLACES, TIMES)]


def columns_of(dataset: xr.Dataset) -> dict[str, Any]:
    """Values of the columns by their ID."""
    assert all(np.dtype(v.dtype).kind in "fiU" for v in dataset.data_vars.values())
    return {v.attrs["nd2_id"]: v.values.tolist() for v in dataset.data_vars.values()}


def untouched_columns(variant: Variant) -> set[str]:
    """IDs of the columns that a variant says nothing of."""
    everything = set(COLUMNS)
    chunk, _, path = variant.where.partition(" ")
    if chunk != DESCRIPTION.decode():
        return everything - {chunk.removeprefix("CustomData|").removesuffix("!")}
    tag = re.search(r"/Tag(\d+)", path)
    return everything - {list(COLUMNS)[int(tag[1])]} if tag else set()


def problems(variant: Variant) -> list[str]:
    """What is wrong with the tree of a damaged file."""
    data = variant.applied(intact_file())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tree = xr.open_datatree(io.BytesIO(data), engine="nd2")
    image: Any = tree["image/image"]
    found = [] if bool((image == 1).all()) else ["the pixels are others"]
    node = tree.children.get("recorded")
    columns = {} if node is None else columns_of(node.to_dataset(inherit=False))
    refused = any("recorded is left out" in str(each.message) for each in caught)
    undecodable = variant.damage in UNDECODABLE and refused
    untouched = set() if undecodable else untouched_columns(variant)
    found += [f"{id_} is wrong" for id_ in untouched if columns.get(id_) != intact_columns()[id_]]
    if columns.keys() - intact_columns().keys():
        found.append("there are columns of nothing")
    lost = intact_columns().keys() - columns.keys()
    told = any("recorded" in str(each.message) for each in caught)
    # To nd2 it is the same as a chunk that is not there, or one that tells of no columns.
    silent = {DESCRIPTION} & variant.changes.keys() and variant.damage in UNKNOWN
    if lost and not told and not silent:
        found.append(f"nothing tells that {sorted(lost)} are left out")
    if {each.category for each in caught} - {UserWarning}:
        found.append(f"warnings of another kind: {[str(each.message) for each in caught]}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = xr.open_dataset(io.BytesIO(data), engine="nd2", group="recorded")
    except ND2FormatError:
        if node is not None:
            found.append("alone it cannot be opened")
    else:
        if node is None or not alone.identical(node.to_dataset(inherit=False)):
            found.append("alone it is another one")
    return found


def test_every_damage() -> None:
    failures = [f"{variant}: {problem}" for variant in damaged() for problem in problems(variant)]
    assert not failures, f"{len(failures)}\n" + "\n".join(failures[:: max(1, len(failures) // 20)])
    counts = Counter(variant.part for variant in damaged())
    assert counts[PLACES] > 200


def test_memory_is_bounded() -> None:
    bombs = [
        v
        for v in damaged()
        if v.damage in {"too long", "too many elements", "entities", "too deep"}
    ]
    assert len(bombs) == 4
    for variant in bombs:
        data = variant.applied(intact_file())
        tracemalloc.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = xr.open_datatree(io.BytesIO(data), engine="nd2")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert "recorded" not in tree.children
        assert peak < 3 * len(data) + MAX_EXTRA_BYTES, variant


def test_names_and_units_that_are_odd_cost_no_values() -> None:
    for variant in damaged():
        key = variant.where.split("/")[-1]
        if variant.damage in UNDECODABLE:
            continue
        if key in NAMING_KEYS | UNUSED_KEYS and "/Tag" in variant.where:
            data = io.BytesIO(variant.applied(intact_file()))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = xr.open_dataset(data, engine="nd2", group="recorded")
            assert columns_of(dataset) == intact_columns(), variant


def test_columns_of_bytes_that_are_elsewhere() -> None:
    """The map may place a column anywhere, and its own header says whether it is there."""
    data = bytearray(intact_file())
    entry = data.rindex(b"CustomData|Z!") + len(b"CustomData|Z!")
    intact = bytes(data[entry : entry + 16])
    of_x = data.rindex(b"CustomData|X!") + len(b"CustomData|X!")
    for offset in (bytes(data[of_x : of_x + 8]), (7).to_bytes(8, "little"), b"\xff" * 8, bytes(8)):
        data[entry : entry + 16] = offset + intact[8:]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = xr.open_dataset(io.BytesIO(data), engine="nd2", group="recorded")
        found = columns_of(dataset)
        assert found == {id_: v for id_, v in intact_columns().items() if id_ != "Z"}
        assert any("CustomData|Z!" in str(each.message) for each in caught)


def test_without_any_column_that_can_be_read() -> None:
    names = [name for name in chunks_of(intact_file()) if name.startswith(b"CustomData|")]
    data = with_chunks(intact_file(), dict.fromkeys(names))
    with pytest.raises(ND2FormatError, match="cannot be read: there is no chunk CustomData|X!"):
        xr.open_dataset(io.BytesIO(data), engine="nd2", group="recorded")
    with pytest.warns(UserWarning, match="the group recorded is left out: "):
        tree = xr.open_datatree(io.BytesIO(data), engine="nd2")
    assert list(tree.children) == ["image"]


def test_columns_of_the_same_id() -> None:
    chunk = chunks_of(intact_file())[DESCRIPTION]
    twice = chunk.replace(b'value="P1"', b'value="X"')
    with pytest.warns(UserWarning, match="group recorded is odd: .*Tag5/ID is not what it should"):
        dataset = xr.open_dataset(
            io.BytesIO(with_chunks(intact_file(), {DESCRIPTION: twice})),
            engine="nd2",
            group="recorded",
        )
    expected = {id_: values for id_, values in intact_columns().items() if id_ != "P1"}
    assert columns_of(dataset) == expected
