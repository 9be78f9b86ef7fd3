"""Windows of one size by their corners, as selections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xarray_nd2.read.selection import select_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xarray_nd2.format.layout import ImageShape
    from xarray_nd2.read.selection import Selection

    Ints = NDArray[np.int64]


def windows_of(
    layout: ImageShape,
    frames: Ints,
    y0: Ints,
    x0: Ints,
    height: int,
    width: int,
    channels: Sequence[int] | None = None,
) -> Selection:
    """All samples, and all channels unless some are given."""
    return select_windows(
        layout,
        frames,
        y0[:, None] + np.arange(height),
        x0[:, None] + np.arange(width),
        np.array(range(layout.channels) if channels is None else channels, np.int64),
        np.arange(layout.samples),
    )
