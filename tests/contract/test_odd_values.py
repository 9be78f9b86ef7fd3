"""Any one value of what describes an image may be odd or absent: the file opens, and every pixel is right."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from tests.damage import rewritten
from xarray_nd2.testing import Channel, write_nd2, writer
from xarray_nd2.testing.variant import lite_variant

if TYPE_CHECKING:
    from collections.abc import Iterator

    Path = tuple[Any, ...]

FRAMES = np.random.default_rng(0).integers(0, 2**16, (3, 2, 2, 2, 8, 8)).astype("uint16")
CHUNK_OF_ROOT = {
    "SLxPictureMetadata": b"ImageMetadataSeqLV|0!",
    "SLxExperiment": b"ImageMetadataLV!",
    "SLxImageTextInfo": b"ImageTextInfoLV!",
}
ABSENT = object()
ODD_VALUES: list[Any] = [
    *(ABSENT, True, 0.0, -1.0, 1e300, 1e-300, 5e-324, float("nan"), float("inf"), -float("inf")),
    *(2.0**62, 99_999.0, "x", "", b"\xff\x00", {}, {"a": 1.0}, []),
]
EVERY = 5  # of all combinations one in so many is tried, others for each kind of value


def described(recorded: bool) -> tuple[bytes, dict[str, Any]]:
    """A file that says much of itself, and its trees of names and values."""
    trees: dict[str, Any] = {}

    def encoded(tree: Mapping[str, Any]) -> bytes:
        trees.update(tree)
        return lite_variant(tree)

    file = io.BytesIO()
    rows = np.arange(FRAMES[..., 0, 0, 0].size, dtype=float)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "lite_variant", encoded)
        write_nd2(
            file,
            FRAMES,
            "TPZCYX",
            channels=[
                Channel("DAPI", 450.0, [405.0], "#0033ff", exposure=20.0, pinhole=30.0),
                Channel("GFP", 512.0, [488.0, 561.0], modality="brightfield", camera="C11440"),
            ],
            timestamps=rows + 0.1,
            start="2024-01-01T00:00:00",
            camera_to_stage=(1.0, 0.0, 0.0, -1.0),
            positions=["A1", "A2"],
            stage_positions=[(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)],
            z_step=0.3,
            z_home=1,
            recorded=dict.fromkeys("XYZ", rows) if recorded else None,
            text_info={"optics": "Plan Apo 20x", "author": "R. Hooke"},
        )
    return file.getvalue(), trees


def places(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Where the values of a tree are, and its branches."""
    inside: Any = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    for key, value in inside:
        yield (*path, key)
        if isinstance(value, (Mapping, Sequence)) and not isinstance(value, (str, bytes)):
            yield from places(value, (*path, key))


def replaced(tree: Any, path: Path, value: Any) -> Any:
    """The tree with another value in one place, or without it."""
    key, *rest = path
    copy: Any = dict(tree) if isinstance(tree, Mapping) else list(tree)
    if rest:
        copy[key] = replaced(tree[key], tuple(rest), value)
    elif value is ABSENT:
        del copy[key]
    else:
        copy[key] = value
    return copy


@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("root", CHUNK_OF_ROOT)
def test_one_odd_value(root: str, recorded: bool) -> None:
    data, trees = described(recorded)
    flat = FRAMES.ravel()
    for number, path in enumerate(places(trees[root])):
        for value in ODD_VALUES[(number + recorded) % EVERY :: EVERY]:
            tree = {root: replaced(trees[root], path, value)}
            copy = rewritten(data, {CHUNK_OF_ROOT[root]: lite_variant(tree)})
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                ds = xr.open_dataset(io.BytesIO(copy), engine="nd2")
            case = path, value
            told = [str(one.message) for one in caught]
            assert {one.category for one in caught} <= {UserWarning}, (case, told)
            assert sum("some of the metadata is odd" in text for text in told) <= 1, (case, told)
            # Loops may be said to go on; what there is comes first.
            pixels = ds.image.values.ravel() if ds.image.nbytes < 2**26 else flat
            np.testing.assert_array_equal(pixels[: flat.size], flat, err_msg=str(case))
            for dim in set("TZYX") & set(ds.image.dims):
                steps = np.diff(ds[dim].values)
                assert (steps > 0).all() or (steps < 0).all(), (case, dim)
            for name, label in ds.coords.items():
                assert label.dtype.kind != "f" or not np.isinf(label.values).any(), (case, name)
