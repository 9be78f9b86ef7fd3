"""The figure of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from xarray_nd2.cli.demo.sample import STACK_PERIOD_SECONDS
from xarray_nd2.cli.demo.track import WINDOW_REACH_UM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from xarray_nd2.cli.demo.sample import Sample
    from xarray_nd2.cli.demo.track import FoundCell, Look

    Floats = NDArray[np.floating[Any]]

_PICTURE_COUNT = 8
_CHANNEL_COLORS = {"DAPI": (1.0, 0.0, 1.0), "GFP": (0.0, 1.0, 0.0)}
_WHITE_LEVEL_COUNTS = {"DAPI": 1700.0, "GFP": 1300.0}
_BLACK_LEVEL_COUNTS = 150.0
_FOUND_COLOR, _TRUE_COLOR = "#d1495b", "#444444"


def save_figure(
    path: Path,
    overview: xr.DataArray,
    looks: Sequence[Look],
    found: Sequence[FoundCell],
    sample: Sample,
) -> None:
    """Draw the cell at several times, its path, its height and its brightness.

    Parameters
    ----------
    path : Path
        Where to save.
    overview : xarray.DataArray
        One plane of one channel, with the dimensions Y and X.
    looks : sequence of Look
        Where it was looked for at each time.
    found : sequence of FoundCell
        What was found there.
    sample : Sample
        What is true.
    """
    minutes = np.arange(sample.stack_count) * STACK_PERIOD_SECONDS / 60
    places = np.array([each.place for each in found])
    shown = np.unique(np.linspace(0, len(looks) - 1, _PICTURE_COUNT).round().astype(int))

    figure = Figure(figsize=(12, 8), dpi=120, layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 2.5]).flat
    top.suptitle("The cell in focus: DAPI in magenta, GFP in green; bars are 10 µm")
    for axes, t in zip(top.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _draw_picture(axes, found[t].picture, f"{minutes[t]:.0f} min")
    field, plots = bottom.subfigures(1, 2, squeeze=False, width_ratios=[1.15, 1]).flat
    _draw_path(field.subplots(), overview, places, minutes)
    _draw_windows(field.axes[0], [looks[t].expected for t in shown])
    upper, lower = plots.subplots(2, 1, sharex=True)
    true = sample.place(np.arange(sample.stack_count))
    upper.plot(minutes, true[:, 0], color=_TRUE_COLOR, linewidth=1, label="true")
    upper.plot(minutes, places[:, 0], "o", color=_FOUND_COLOR, markersize=5, label="found")
    upper.set(ylabel="Z of the cell (µm)", ylim=(0, 14))
    upper.legend(loc="upper right")
    lower.plot(
        minutes, [each.gfp for each in found], "o-", color="#2a9d3a", markersize=5, linewidth=1
    )
    lower.set(ylabel="GFP above background (counts)", xlabel="time (min)")
    lower.set_ylim(bottom=0)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    figure.savefig(path)


def _draw_picture(axes: Axes, picture: xr.DataArray, title: str) -> None:
    axes.imshow(_colored(picture), extent=_extent(picture), interpolation="bicubic")
    axes.set_title(title, fontsize=11)
    axes.set(xticks=[], yticks=[])
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    # A bar of 10 µm in the lower left corner.
    start, height = left + 0.07 * (right - left), low + 0.08 * (high - low)
    axes.plot([start, start + 10], [height] * 2, color="white", linewidth=3, solid_capstyle="butt")


def _colored(picture: xr.DataArray) -> Floats:
    """Red, green and blue from 0 to 1."""
    light = np.zeros((picture.sizes["Y"], picture.sizes["X"], 3))
    for name, color in _CHANNEL_COLORS.items():
        pixels = picture.sel(C=name).values.astype(float)
        level = (
            (pixels - _BLACK_LEVEL_COUNTS) / (_WHITE_LEVEL_COUNTS[name] - _BLACK_LEVEL_COUNTS)
        ).clip(0, 1)
        light += level[:, :, None] * color
    return light.clip(0, 1)


def _extent(picture: xr.DataArray) -> tuple[float, float, float, float]:
    y, x = picture["Y"].values, picture["X"].values
    half = (x[1] - x[0]) / 2
    return x[0] - half, x[-1] + half, y[-1] + half, y[0] - half


def _draw_path(axes: Axes, overview: xr.DataArray, places: Floats, minutes: Floats) -> None:
    low, high = np.percentile(overview.values, [1, 99.8])
    axes.imshow(overview.values, "gray", vmin=low, vmax=high, extent=_extent(overview))
    axes.plot(places[:, 2], places[:, 1], color="white", linewidth=1)
    dots = axes.scatter(places[:, 2], places[:, 1], c=minutes, s=22, cmap="plasma", zorder=3)
    z = overview["Z"].item()
    axes.set(
        xlabel="X (µm)",
        ylabel="Y (µm)",
        title=f"Path, over DAPI at Z = {z:g} µm after {minutes[-1]:.0f} min",
    )
    axes.figure.colorbar(dots, ax=axes, label="time (min)", shrink=0.9)


def _draw_windows(axes: Axes, centres: Sequence[Floats]) -> None:
    _, height, width = 2 * WINDOW_REACH_UM
    for _, y, x in centres:
        corner = x - width / 2, y - height / 2
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="white", alpha=0.6))
    entry = Line2D([], [], color="white", marker="s", markersize=9, fillstyle="none", linestyle="")
    axes.legend(
        [entry],
        ["windows of the pictures above"],
        loc="upper right",
        facecolor="black",
        labelcolor="white",
        framealpha=0.6,
    )
