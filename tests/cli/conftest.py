"""Files that the commands are tried with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from xarray_nd2.testing import Channel, write_nd2

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def run_file(folder: Path) -> Path:
    """Two channels over times and planes, in the folder that the HTTP server serves."""
    pixels = np.random.default_rng(4).integers(100, 200, (4, 3, 2, 96, 128), np.uint16)
    pixels[:, :, 0, :, :64] = 3000  # DAPI at the left, GFP at the right
    pixels[:, :, 1, :, 64:] = 2000
    write_nd2(
        folder / "cli-run.nd2",
        pixels,
        "TZCYX",
        channels=[
            Channel("DAPI", emission=450, excitation=405, color="#0000ff", exposure=50),
            Channel("GFP", emission=520, color="#00ff00"),
        ],
        pixel_size=0.25,
        period=60.0,
        z_step=2.0,
        start="2026-01-15T09:30:00",
        recorded={"X": np.zeros(12)},
    )
    return folder / "cli-run.nd2"


@pytest.fixture(scope="session")
def huge_file(folder: Path) -> Path:
    """One frame of 134 MB: a ramp along Y and X."""
    rows, columns = np.ogrid[:8192, :8192]
    frame = (rows + columns).astype(np.uint16)
    write_nd2(folder / "cli-huge.nd2", frame, "YX", pixel_size=0.5)
    return folder / "cli-huge.nd2"
