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

PIXEL_SIZE_UM: Final = 0.65
"""Height and width of a pixel."""
PLANE_COUNT: Final = 8
PLANE_DISTANCE_UM: Final = 2.0
STACK_PERIOD_SECONDS: Final = 300.0
"""From the start of one stack to that of the next."""

_SAMPLE_CHANNELS = (
    Channel("DAPI", emission=461.0, excitation=359.0, color="#ff00ff"),
    Channel("GFP", emission=509.0, excitation=488.0, color="#00ff00"),
)
_BACKGROUND_COUNTS = 200.0
_DEPTH_OF_FIELD_UM = 3.0
_PLANE_SECONDS = 0.8  # from one plane of a stack to the next
_MAX_PATH_STEP = 1 / 23  # of the path, however few times there are


@dataclass(frozen=True)
class Sample:
    """Cells under a microscope.

    Parameters
    ----------
    stack_count : int
        Stacks taken, one for each time.
    side_pixels : int
        Height and width of a frame in pixels.
    """

    stack_count: int
    side_pixels: int

    @classmethod
    def of_size(cls, megabytes: float) -> Sample:
        """Sample whose images take about this many megabytes (10**6 bytes)."""
        side = 512 if megabytes >= 50 else 256
        stack = PLANE_COUNT * len(_SAMPLE_CHANNELS) * side**2 * 2
        return cls(max(2, round(megabytes * 1e6 / stack)), side)

    def place(self, t: int | NDArray[np.int64]) -> Floats:
        """Where the cell is at time number `t`: z, y and x in µm along the last axis."""
        part = np.asarray(t) * min(_MAX_PATH_STEP, 1 / (self.stack_count - 1))
        z = 7 + 4 * np.sin(2 * np.pi * (0.8 * part - 0.2))
        y = self.side_pixels * PIXEL_SIZE_UM * (0.6 - 0.12 * np.sin(1.2 * np.pi * part))
        x = self.side_pixels * PIXEL_SIZE_UM * (0.3 + 0.4 * part)
        return np.stack([z, y, x], axis=-1)

    def gfp(self, t: int | NDArray[np.int64]) -> Floats:
        """Brightness of the cell in GFP at time number `t`: it is switched on midway."""
        return np.asarray(150 + 1050 / (1 + np.exp(6 - 12 * np.asarray(t) / self.stack_count)))

    @cached_property
    def _cells(self) -> Floats:
        """Columns z, y, x (µm), height, width (µm), DAPI, GFP; the first row is the moving cell."""
        rng = np.random.default_rng(5)
        path = self.place(np.arange(self.stack_count))[:, 1:]
        centres = np.full((1, 2), np.inf)
        for centre in rng.uniform(0, self.side_pixels * PIXEL_SIZE_UM, (90, 2)):
            apart = np.hypot(*(centres - centre).T).min() > 17
            if apart and np.hypot(*(path - centre).T).min() > 32:
                centres = np.vstack([centres, centre])
        low, high = [1, 2.4, 2.4, 700, 100], [13, 3.8, 3.8, 1600, 700]
        looks = rng.uniform(low, high, (len(centres), len(low)))
        looks[0, 1:4] = 2.9, 2.9, 1500
        return np.insert(looks, [1, 1], centres, axis=1)

    def frame(self, index: int) -> NDArray[np.uint16]:
        """Pixels of frame number `index`, of shape (C, Y, X)."""
        t, plane = divmod(index, PLANE_COUNT)
        cells = self._cells.astype(np.float32)
        cells[0, :3], cells[0, -1] = self.place(t), self.gfp(t)
        z, y, x, height, width, *brightness = cells.T
        # Out of focus a cell is wider and dimmer, its light in all stays the same.
        spread = 1 + ((plane * PLANE_DISTANCE_UM - z) / _DEPTH_OF_FIELD_UM) ** 2
        grid = np.arange(self.side_pixels, dtype=np.float32)[:, None] * np.float32(PIXEL_SIZE_UM)
        pixels = np.empty((len(brightness), self.side_pixels, self.side_pixels), np.uint16)
        rng = np.random.default_rng([7, index])
        for channel, (bright, scale) in enumerate(zip(brightness, (1.0, 1.7), strict=True)):
            rows = np.exp(-((grid - y) ** 2) / (2 * spread * (scale * height) ** 2))
            columns = np.exp(-((grid - x) ** 2) / (2 * spread * (scale * width) ** 2))
            # In strips of 8 rows: products this small are not spread over threads, which is slower.
            strips = (rows * (bright / spread)).reshape(-1, 8, len(cells))
            light = _BACKGROUND_COUNTS + (strips @ columns.T).reshape(
                self.side_pixels, self.side_pixels
            )
            first = rng.integers(self._noise.size - light.size)
            noise = self._noise[first : first + light.size].reshape(light.shape)
            pixels[channel] = light + noise * np.sqrt(light) + 0.5
        return pixels

    @cached_property
    def _noise(self) -> NDArray[np.float32]:
        """Noise of two frames: each frame takes a part of it, which is faster than making its own."""
        return np.random.default_rng(11).standard_normal(2 * self.side_pixels**2, np.float32)

    def write(self, path: Path) -> None:
        """Write the time-lapse as an ND2 file."""
        sizes = {
            "T": self.stack_count,
            "Z": PLANE_COUNT,
            "C": len(_SAMPLE_CHANNELS),
            "Y": self.side_pixels,
            "X": self.side_pixels,
        }
        stacks, planes = (
            np.arange(self.stack_count) * STACK_PERIOD_SECONDS,
            np.arange(PLANE_COUNT) * _PLANE_SECONDS,
        )
        write_nd2(
            path,
            self.frame,
            "TZCYX",
            sizes=sizes,
            dtype="uint16",
            channels=_SAMPLE_CHANNELS,
            pixel_size=PIXEL_SIZE_UM,
            z_step=PLANE_DISTANCE_UM,
            z_home=0,  # so that z counts from the first plane
            period=STACK_PERIOD_SECONDS,
            timestamps=np.add.outer(stacks, planes).ravel(),
            bits_significant=12,
        )
