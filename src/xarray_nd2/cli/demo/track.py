"""The analysis: a cell is followed by windows that are selected by label and measured by workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

from xarray_nd2.cli.demo.sample import PIXEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Labels = dict[str, NDArray[Any]]

REACH: Final = np.array([4.0, 20.5, 20.5])
"""From the centre of a window to its sides, along z, y and x in µm."""

_AT_ONCE = 4
_CELL_RADIUS = 4.0  # µm


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


class Found(NamedTuple):
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


def measure(pixels: NDArray[np.uint16], labels: Labels, expected: Floats) -> Found:
    """Find the cell in a window and measure it; this runs on the workers.

    Parameters
    ----------
    pixels : ndarray
        Of the window.
    labels : dict of str to ndarray
        Coordinates Z, C, Y and X of the pixels.
    expected : ndarray, shape (3,)
        Where to look first: z, y and x in µm.

    Returns
    -------
    Found
        What was found.
    """
    window = xr.DataArray(pixels, labels, list(labels))
    light = window - window.median(["Z", "Y", "X"])
    nuclei = light.sel(C="DAPI").values
    flat = nuclei.sum(axis=0)
    rows, columns = labels["Y"], labels["X"]
    _, y, x = expected
    for radius in (2 * _CELL_RADIUS,) * 3 + (_CELL_RADIUS,) * 10:
        # On to the centre of what is near, until there is no further to go.
        near = np.outer(_bell(rows, y, radius), _bell(columns, x, radius))
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
    return Found(np.array([z, y, x]), float((green * near).sum() / near.sum()), picture)


def _bell(places: Floats, centre: float, radius: float) -> Floats:
    return np.asarray(np.exp(-((places - centre) ** 2) / (2 * radius**2)))


def track(
    image: xr.DataArray, start: Floats, tell: Callable[[int], None]
) -> tuple[list[Look], list[Found]]:
    """Follow the cell through all times.

    Windows are centred on where the cell will be if it goes on as it did lately; those of a few
    times are read at once.

    Parameters
    ----------
    image : xarray.DataArray
        With the dimensions T, Z, C, Y and X.
    start : ndarray, shape (3,)
        About where the cell is at first: z, y and x in µm.
    tell : callable
        Called with the number of times that are done.

    Returns
    -------
    looks : list of Look
        One for each time.
    found : list of Found
        Likewise.
    """
    looks: list[Look] = []
    found: list[Found] = []
    while len(found) < image.sizes["T"]:
        tell(len(found))
        times = image["T"].values[len(found) :][: _AT_ONCE if len(found) > 1 else 1]
        for ahead, time in enumerate(times, start=1):
            expected = _extrapolate(found, ahead) if found else start
            sides = zip("ZYX", expected - REACH, expected + REACH, strict=True)
            around = {dim: slice(low, high) for dim, low, high in sides}
            looks.append(Look(expected, image.sel(T=time, drop=True).sel(around)))
        found += compute(*map(_measured, looks[len(found) :]))
    return looks, found


def _extrapolate(found: list[Found], ahead: int) -> Floats:
    last, before = found[-1].place, found[-2 if len(found) > 1 else -1].place
    return np.asarray(last + ahead * (last - before))


def _measured(look: Look) -> Any:
    """`measure`, for dask to compute."""
    [pixels] = look.window.data.to_delayed().flat  # its graph reads no more than the window
    return delayed(measure)(pixels, look.labels, look.expected)


class Job(NamedTuple):
    """The same look, for a reader of whole frames: numbers of the frames instead of pixels."""

    frames: list[int]
    labels: Labels
    expected: Floats


def jobs(image: xr.DataArray, looks: Sequence[Look]) -> list[Job]:
    """What a reader of whole frames has to do for the same windows."""
    planes = image.get_index("Z")
    return [
        Job((t * len(planes) + planes.get_indexer(labels["Z"])).tolist(), labels, look.expected)
        for t, look in enumerate(looks)
        for labels in [look.labels]
    ]


def measure_whole_frames(url: str, options: dict[str, Any], some: Sequence[Job]) -> list[Floats]:
    """Find the cell in windows cut from whole frames that nd2 reads; this runs on the workers.

    Parameters
    ----------
    url : str
        Of the file.
    options : dict
        Of its filesystem.
    some : sequence of Job
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
            top, left = (round(labels[dim][0] / PIXEL) for dim in "YX")
            rows = slice(top, top + len(labels["Y"]))
            columns = slice(left, left + len(labels["X"]))
            pixels = np.stack([file.read_frame(frame)[:, rows, columns] for frame in frames])
            places.append(measure(pixels, labels, expected).place)
    return places
