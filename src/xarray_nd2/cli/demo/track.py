"""The analysis: a cell is followed by windows that are selected by label and measured by workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

from xarray_nd2.cli.demo.sample import PIXEL_SIZE_UM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Labels = dict[str, NDArray[Any]]

WINDOW_REACH_UM: Final = np.array([4.0, 20.5, 20.5])
"""From the centre of a window to its sides, along z, y and x."""

_TIMES_AT_ONCE = 4
_CELL_RADIUS_UM = 4.0


class Look(NamedTuple):
    """Where to look for the cell at one time.

    Attributes
    ----------
    expected : ndarray, shape (3,)
        Where the cell should be: z, y and x in µm.
    window : xarray.DataArray
        What is around it, with the dimensions Z, C, Y and X, and lazy.
    """

    expected: Floats
    window: xr.DataArray

    @property
    def labels(self) -> Labels:
        """Coordinates of the window."""
        return {str(dim): self.window[dim].values for dim in self.window.dims}


class FoundCell(NamedTuple):
    """The cell at one time.

    Attributes
    ----------
    place : ndarray, shape (3,)
        z, y and x in µm.
    gfp : float
        Brightness in GFP above the background.
    picture : xarray.DataArray
        The plane in focus, with the dimensions C, Y and X.
    """

    place: Floats
    gfp: float
    picture: xr.DataArray


def measure_cell(pixels: NDArray[np.uint16], labels: Labels, expected: Floats) -> FoundCell:
    """Find the cell in a window and measure it; this runs on the workers.

    Parameters
    ----------
    pixels : ndarray of uint16, shape (Z, C, Y, X)
        Of the window.
    labels : dict of str to ndarray
        Coordinates Z, C, Y and X of the pixels.
    expected : ndarray, shape (3,)
        Where to look first: z, y and x in µm.

    Returns
    -------
    FoundCell
        What was found.
    """
    window = xr.DataArray(pixels, labels, list(labels))
    light = window - window.median(["Z", "Y", "X"])
    nuclei = light.sel(C="DAPI").values
    flat = nuclei.sum(axis=0)
    rows, columns = labels["Y"], labels["X"]
    _, y, x = expected
    for radius in (2 * _CELL_RADIUS_UM,) * 3 + (_CELL_RADIUS_UM,) * 10:
        # On to the centre of what is near, until there is no further to go.
        near = np.outer(_gaussian(rows, y, radius), _gaussian(columns, x, radius))
        weights = flat * near
        y = weights.sum(axis=1) @ rows / weights.sum()
        x = weights.sum(axis=0) @ columns / weights.sum()
    # The cell is brightest in focus: 1 / brightness lies on a parabola in z.
    bright = (nuclei * near).sum(axis=(1, 2))
    bright = (bright / bright.max()).clip(0.01)
    curve = np.polyfit(labels["Z"], 1 / bright, 2, w=bright**2)
    z = np.clip(-curve[1] / (2 * curve[0]), *labels["Z"][[0, -1]])
    green = light.sel(C="GFP").sel(Z=z, method="nearest").values
    picture = window.sel(Z=z, method="nearest", drop=True)
    return FoundCell(np.array([z, y, x]), float((green * near).sum() / near.sum()), picture)


def _gaussian(places: Floats, centre: float, radius: float) -> Floats:
    """Gaussian curve of height 1 at some places; `radius` is its standard deviation."""
    return np.asarray(np.exp(-((places - centre) ** 2) / (2 * radius**2)))


def track_cell(
    image: xr.DataArray, start: Floats, show_progress: Callable[[int], None]
) -> tuple[list[Look], list[FoundCell]]:
    """Follow the cell through all times.

    Windows are centred on where the cell will be if it goes on as it did lately; those of a few
    times are read at once.

    Parameters
    ----------
    image : xarray.DataArray
        With the dimensions T, Z, C, Y and X.
    start : ndarray, shape (3,)
        About where the cell is at first: z, y and x in µm.
    show_progress : callable
        Called with the number of times that are done.

    Returns
    -------
    looks : list of Look
        One for each time.
    found : list of FoundCell
        Likewise.
    """
    looks: list[Look] = []
    found: list[FoundCell] = []
    while len(found) < image.sizes["T"]:
        show_progress(len(found))
        times = image["T"].values[len(found) :][: _TIMES_AT_ONCE if len(found) > 1 else 1]
        for ahead, time in enumerate(times, start=1):
            expected = _extrapolate(found, ahead) if found else start
            sides = zip("ZYX", expected - WINDOW_REACH_UM, expected + WINDOW_REACH_UM, strict=True)
            around = {dim: slice(low, high) for dim, low, high in sides}
            looks.append(Look(expected, image.sel(T=time, drop=True).sel(around)))
        found += compute(*map(_delayed_measure, looks[len(found) :]))
    return looks, found


def _extrapolate(found: list[FoundCell], ahead: int) -> Floats:
    """Place of the cell so many times after the last, if it goes on as between the last two."""
    last, before = found[-1].place, found[-2 if len(found) > 1 else -1].place
    return np.asarray(last + ahead * (last - before))


def _delayed_measure(look: Look) -> Any:
    """What `measure_cell` finds in a window, for dask to compute."""
    [pixels] = look.window.data.to_delayed().flat  # its graph reads no more than the window
    return delayed(measure_cell)(pixels, look.labels, look.expected)


class WholeFrameJob(NamedTuple):
    """The same look, for a reader of whole frames: numbers of the frames instead of pixels."""

    frames: list[int]
    labels: Labels
    expected: Floats


def whole_frame_jobs(image: xr.DataArray, looks: Sequence[Look]) -> list[WholeFrameJob]:
    """One job for each look, with numbers of frames in the order of the file."""
    planes = image.get_index("Z")
    return [
        WholeFrameJob(
            (t * len(planes) + planes.get_indexer(labels["Z"])).tolist(), labels, look.expected
        )
        for t, look in enumerate(looks)
        for labels in [look.labels]
    ]


def measure_whole_frames(
    url: str, options: dict[str, Any], some: Sequence[WholeFrameJob]
) -> list[Floats]:
    """Find the cell in windows cut from whole frames that nd2 reads; this runs on the workers.

    Parameters
    ----------
    url : str
        Of the file.
    options : dict
        Of its filesystem.
    some : sequence of WholeFrameJob
        What to read; the file is opened once for all.

    Returns
    -------
    list of ndarray
        Where the cell was found: z, y and x in µm.
    """
    import nd2

    places = []
    with nd2.ND2File(url, storage_options=options) as file:
        for frames, labels, expected in some:
            top, left = (round(labels[dim][0] / PIXEL_SIZE_UM) for dim in "YX")
            rows = slice(top, top + len(labels["Y"]))
            columns = slice(left, left + len(labels["X"]))
            pixels = np.stack([file.read_frame(frame)[:, rows, columns] for frame in frames])
            places.append(measure_cell(pixels, labels, expected).place)
    return places
