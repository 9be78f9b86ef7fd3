"""Groups of files whose annotations, events or regions of interest, may be damaged."""

from __future__ import annotations

import io
import warnings
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tests.metadata.chunk_trees import decoded
from tests.metadata.damaged import chunks_of, damaged_chunks, damages_of_keys, with_chunks
from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

# Damages that are a value of none of the kinds that are asked for.
NEVER_RIGHT = ("bytes", "level of levels")
# Damages of the root after which a chunk has nothing at all, as that of a file without annotations.
LEAVE_NOTHING = ("deleted", "empty level", "no type", "unknown type")


def written(shape: tuple[int, ...], dims: str, **options: Any) -> bytes:
    file = io.BytesIO()
    write_nd2(file, np.zeros(shape, "uint16"), dims, **options)
    return file.getvalue()


def opened_tree(data: bytes, **options: Any) -> tuple[xr.DataTree, list[str]]:
    """The tree of a file, and what the user is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tree = xr.open_datatree(io.BytesIO(data), engine="nd2", **options)
    assert {each.category for each in caught} <= {UserWarning}, caught
    return tree, [str(each.message) for each in caught]


def opened_group(data: bytes, name: str, **options: Any) -> xr.Dataset:
    return xr.open_dataset(io.BytesIO(data), engine="nd2", group=name, **options)


def check_round_trip(data: bytes, name: str, folder: Path) -> None:
    """A group is the same after it was stored, with dask too, and all of it is in memory."""
    tree, told = opened_tree(data, chunks={})
    assert not told
    group = tree[name].to_dataset()
    assert all(isinstance(each._data, np.ndarray) for each in group.variables.values())
    xr.testing.assert_identical(group, opened_group(data, name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Zarr, that it has no specification for texts
        tree.to_zarr(folder / "a.zarr", consolidated=False)
    tree.to_netcdf(folder / "a.nc")
    zarr: dict[str, Any] = {"engine": "zarr", "consolidated": False}
    netcdf: dict[str, Any] = {}
    for path, options in ((folder / "a.zarr", zarr), (folder / "a.nc", netcdf)):
        with xr.open_datatree(path, **options) as stored:
            xr.testing.assert_identical(stored[name].to_dataset().load(), group)


def problems_of_damaged_keys(
    data: bytes,
    name: str,
    chunk: bytes,
    owned: Mapping[str, set[str]],
    *,
    silent: Collection[str] = (),
    every: int,
) -> Iterator[str]:
    """What is wrong with the group where one key of its chunk is damaged.

    `owned` has the variables that may change without a warning with a key of that name, by how they
    start; of all other keys no variable may. Nothing needs to be told of keys that are `silent`. Of the
    damages one of so many is examined.
    """
    intact, told = opened_tree(data)
    assert not told
    whole, tree = intact[name].to_dataset(), decoded(chunks_of(data)[chunk])
    for path, damage in islice(damages_of_keys(tree, each_name_once=False), None, None, every):
        deleted = damage == "deleted"
        content = tree.without(path) if deleted else tree.with_value(path, damage)
        found, told = opened_tree(with_chunks(data, {chunk: content}))
        key = tree.keys(path)[-1]
        what = f"{'/'.join(tree.keys(path))} {damage}"
        if (
            not found["image"]
            .to_dataset()
            .drop_attrs()
            .identical(intact["image"].to_dataset().drop_attrs())
        ):
            yield f"{what}: the image changed"
        if name not in found.children:
            if not told and not (len(path) == 1 and damage in LEAVE_NOTHING):
                yield f"{what}: it is not there, without a warning"
            continue
        group = found[name].to_dataset()
        changed = {
            str(each)
            for each in {*whole.variables, *group.variables}
            if each not in whole
            or each not in group
            or not whole[each].variable.identical(group[each].variable)
        }
        allowed = tuple(owned.get(key, ()))
        others = {each for each in changed if not each.startswith(allowed)} if allowed else changed
        if others and (allowed or not told):
            yield f"{what}: {others} changed, {told}"
        if damage in NEVER_RIGHT and not told and key not in silent:
            yield f"{what}: no warning"


def check_damaged_chunks(data: bytes, name: str, chunk: bytes) -> None:
    """Whatever the data of the chunk are, the image opens, and the group is told to be damaged."""
    for variant in damaged_chunks(name, chunk, chunks_of(data), bombs=True):
        tree, told = opened_tree(variant.applied(data))
        assert tree["image/image"].shape == opened_group(data, "image").image.shape
        if name in tree.children:
            assert variant.damage in ("all but a byte", "half"), variant
        elif variant.damage not in ("deleted", "empty"):
            assert any(f"the group {name} is left out" in each for each in told), (variant, told)
