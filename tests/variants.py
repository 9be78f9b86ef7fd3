"""Synthetic files that differ in everything a reader must get right, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.testing import Channel, write_legacy_nd2, write_nd2
from xarray_nd2.testing.image import loop_dims

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Variant:
    """One file: its dimensions, pixel type, and how it is written."""

    sizes: dict[str, int]
    dtype: str = "uint16"
    options: dict[str, Any] = field(default_factory=dict)
    oracle: bool = True
    """Whether the nd2 library reads it right."""
    legacy: bool = False
    """Whether it is of version 1."""

    @property
    def dims(self) -> str:
        """As written."""
        return "".join(self.sizes)

    @property
    def delivered_dims(self) -> tuple[str, ...]:
        """As read: there is always a C, before Y."""
        return tuple(self.dims if "C" in self.dims else self.dims.replace("Y", "CY"))

    @property
    def delivered_sizes(self) -> dict[str, int]:
        return {dim: self.sizes.get(dim, 1) for dim in self.delivered_dims}

    def pixels(self) -> NDArray[Any]:
        """Every pixel differs from its neighbours along every axis."""
        shape = tuple(self.sizes.values())
        numbers = np.random.default_rng(7).integers(0, 2**16, shape)
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return (numbers / 7 - 4000).astype(dtype)
        return numbers.astype(np.int64).astype(dtype)

    def expected(self) -> NDArray[Any]:
        """Pixels as they are read: along C, too, and zeros where a frame is missing."""
        pixels = self.pixels()
        loops = [self.sizes[dim] for dim in loop_dims(self.sizes)]
        for index in self.options.get("missing", ()):
            pixels[np.unravel_index(index, loops)] = 0
        return pixels.reshape(tuple(self.delivered_sizes.values()))

    def write(self, path: Path) -> Path:
        write = write_legacy_nd2 if self.legacy else write_nd2
        write(path, self.pixels(), self.dims, **self.options)
        return path


VARIANTS: dict[str, Variant] = {
    "legacy": Variant({"T": 2, "P": 3, "Z": 2, "C": 2, "Y": 19, "X": 23}, legacy=True),
    "legacy-rgb": Variant({"T": 2, "Y": 19, "X": 23, "S": 3}, "uint8", legacy=True),
    "frame": Variant({"Y": 30, "X": 40}),
    "time": Variant({"T": 5, "Y": 30, "X": 40}, options={"timestamps": [0.1, 1.2, 2.1, 3.3, 4.0]}),
    "stack": Variant({"Z": 4, "Y": 17, "X": 23}, options={"z_step": 0.3}),
    "positions": Variant(
        {"P": 3, "Y": 16, "X": 12},
        options={
            "positions": ["A1", "", "A1"],
            "stage_positions": [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (7.0, 8.0, 9.0)],
        },
    ),
    "time-stack-channels": Variant(
        {"T": 3, "Z": 4, "C": 2, "Y": 21, "X": 18},
        options={
            "channels": [Channel("DAPI", 450.0, 405.0, "#0033ff"), Channel("GFP", 512.0, 488.0)],
            "timestamps": np.arange(12) * 0.25 + 0.125,
        },
    ),
    "positions-time-stack": Variant({"P": 2, "T": 3, "Z": 2, "Y": 16, "X": 16}),
    "time-positions-stack": Variant({"T": 2, "P": 3, "Z": 2, "Y": 16, "X": 16}),
    "stack-time": Variant({"Z": 3, "T": 4, "Y": 8, "X": 10}),
    "periods": Variant({"T": 5, "Y": 8, "X": 10}, options={"periods": [(3, 1.0), (2, 5.0)]}),
    "rgb": Variant({"T": 2, "Y": 25, "X": 31, "S": 3}, "uint8"),
    "rgba": Variant({"Y": 12, "X": 10, "S": 4}, "uint8", oracle=False),
    "padded-rows": Variant({"T": 2, "Z": 2, "Y": 13, "X": 21}, "uint8"),
    "wide-padding": Variant({"T": 3, "C": 3, "Y": 11, "X": 7}, options={"row_alignment": 64}),
    "lossless": Variant({"T": 3, "C": 2, "Y": 40, "X": 33}, options={"compression": "lossless"}),
    "missing-frames": Variant(
        {"T": 4, "Z": 2, "C": 2, "Y": 20, "X": 24}, options={"missing": [3, 6]}
    ),
    "missing-lossless": Variant(
        {"T": 4, "Y": 20, "X": 24}, options={"missing": [0], "compression": "lossless"}
    ),
    "xml": Variant(
        {"T": 3, "Z": 2, "C": 2, "Y": 14, "X": 15},
        options={"version": (2, 1), "channels": ["a", "b"]},
    ),
    "metadata-at-end": Variant({"T": 3, "Y": 14, "X": 15}, options={"metadata_at": "end"}),
    "other-name-area": Variant({"T": 3, "Y": 14, "X": 15}, options={"name_area": 24}, oracle=False),
    "map-in-sequence": Variant({"T": 12, "Y": 8, "X": 8}, options={"map_order": "sequence"}),
    "uint32": Variant({"T": 2, "Y": 9, "X": 11}, "uint32", oracle=False),
    "int8": Variant({"T": 2, "Y": 9, "X": 11}, "int8", oracle=False),
    "int16": Variant({"T": 2, "C": 2, "Y": 9, "X": 11}, "int16", oracle=False),
    "int32": Variant({"T": 2, "Y": 9, "X": 11}, "int32", oracle=False),
    "float16": Variant({"T": 2, "Y": 9, "X": 11}, "float16", oracle=False),
    "float32": Variant({"T": 2, "C": 2, "Y": 9, "X": 11}, "float32"),
    "float64": Variant({"T": 2, "Y": 9, "X": 11}, "float64", oracle=False),
    "one-time-point": Variant({"T": 1, "Z": 3, "Y": 8, "X": 8}, oracle=False),
    "many-small-frames": Variant({"T": 500, "Y": 4, "X": 6}),
}
