"""The synthetic time-lapse: cells under a microscope, one of which moves on a known path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.testing import Channel, write_nd2

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

PIXEL: Final = 0.65
"""Height and width of a pixel in µm."""
PLANES: Final = 8
PLANE_DISTANCE: Final = 2.0
"""In µm."""
PERIOD: Final = 300.0
"""Seconds from one stack to the next."""

_CHANNELS = (
    Channel("DAPI", emission=461.0, excitation=359.0, color="#ff00ff"),
    Channel("GFP", emission=509.0, excitation=488.0, color="#00ff00"),
)
_BACKGROUND = 200.0
_DEPTH_OF_FIELD = 3.0  # µm
_LONGEST_STEP = 1 / 23  # of the path, however few times there are


@dataclass(frozen=True)
class Sample:
    """Cells under a microscope.

    Parameters
    ----------
    times : int
        Number of stacks taken.
    side : int
        Height and width of a frame in pixels.
    """

    times: int
    side: int

    @classmethod
    def of_size(cls, megabytes: float) -> Sample:
        """Sample whose images take about this many megabytes."""
        side = 512 if megabytes >= 50 else 256
        stack = PLANES * len(_CHANNELS) * side**2 * 2
        return cls(max(2, round(megabytes * 1e6 / stack)), side)

    def place(self, t: int | NDArray[np.int64]) -> Floats:
        """Where the cell is at time number `t`: z, y and x in µm along the last axis."""
        part = np.asarray(t) * min(_LONGEST_STEP, 1 / (self.times - 1))
        z = 7 + 4 * np.sin(2 * np.pi * (0.8 * part - 0.2))
        y = self.side * PIXEL * (0.6 - 0.12 * np.sin(1.2 * np.pi * part))
        x = self.side * PIXEL * (0.3 + 0.4 * part)
        return np.stack([z, y, x], axis=-1)

    def gfp(self, t: int | NDArray[np.int64]) -> Floats:
        """Brightness of the cell in GFP at time number `t`: it is switched on midway."""
        return np.asarray(150 + 1050 / (1 + np.exp(6 - 12 * np.asarray(t) / self.times)))

    @cached_property
    def _cells(self) -> Floats:
        """Columns z, y, x (µm), height, width (µm), DAPI, GFP; the first row is the moving cell."""
        rng = np.random.default_rng(5)
        path = self.place(np.arange(self.times))[:, 1:]
        centres = np.full((1, 2), np.inf)
        for centre in rng.uniform(0, self.side * PIXEL, (90, 2)):
            apart = np.hypot(*(centres - centre).T).min() > 17
            if apart and np.hypot(*(path - centre).T).min() > 32:
                centres = np.vstack([centres, centre])
        low, high = [1, 2.4, 2.4, 700, 100], [13, 3.8, 3.8, 1600, 700]
        looks = rng.uniform(low, high, (len(centres), len(low)))
        looks[0, 1:4] = 2.9, 2.9, 1500
        return np.insert(looks, [1, 1], centres, axis=1)

    def frame(self, index: int) -> NDArray[np.uint16]:
        """Pixels of frame number `index`, as (C, Y, X)."""
        t, plane = divmod(index, PLANES)
        cells = self._cells.astype(np.float32)
        cells[0, :3], cells[0, -1] = self.place(t), self.gfp(t)
        z, y, x, height, width, *brightness = cells.T
        # Out of focus a cell is wider and dimmer, its light in all stays the same.
        spread = 1 + ((plane * PLANE_DISTANCE - z) / _DEPTH_OF_FIELD) ** 2
        grid = np.arange(self.side, dtype=np.float32)[:, None] * np.float32(PIXEL)
        pixels = np.empty((len(brightness), self.side, self.side), np.uint16)
        rng = np.random.default_rng([7, index])
        for channel, (bright, scale) in enumerate(zip(brightness, (1.0, 1.7), strict=True)):
            rows = np.exp(-((grid - y) ** 2) / (2 * spread * (scale * height) ** 2))
            columns = np.exp(-((grid - x) ** 2) / (2 * spread * (scale * width) ** 2))
            # In strips of 8 rows: products this small are not spread over threads, which is slower.
            strips = (rows * (bright / spread)).reshape(-1, 8, len(cells))
            light = _BACKGROUND + (strips @ columns.T).reshape(self.side, self.side)
            first = rng.integers(self._noise.size - light.size)
            noise = self._noise[first : first + light.size].reshape(light.shape)
            pixels[channel] = light + noise * np.sqrt(light) + 0.5
        return pixels

    @cached_property
    def _noise(self) -> NDArray[np.float32]:
        """More than a frame of it: every frame starts elsewhere, which is faster than anew."""
        return np.random.default_rng(11).standard_normal(2 * self.side**2, np.float32)

    def write(self, path: Path) -> None:
        """Write the time-lapse as an ND2 file."""
        sizes = {"T": self.times, "Z": PLANES, "C": len(_CHANNELS), "Y": self.side, "X": self.side}
        stacks, planes = np.arange(self.times) * PERIOD, np.arange(PLANES) * 0.8
        write_nd2(
            path,
            self.frame,
            "TZCYX",
            sizes=sizes,
            dtype="uint16",
            channels=_CHANNELS,
            pixel_size=PIXEL,
            z_step=PLANE_DISTANCE,
            period=PERIOD,
            timestamps=np.add.outer(stacks, planes).ravel(),
            bits_significant=12,
        )
