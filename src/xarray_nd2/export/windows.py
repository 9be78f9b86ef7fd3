"""Between which values each channel is shown, by what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xarray_nd2.export.write_shards import decoded_region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.export.write_shards import Export, Stack

_WINDOW_PERCENTILES: Final = (0.1, 99.9)
_MAX_IMAGES: Final = 16  # that are looked at
_MAX_BYTES: Final = 64 * 1024 * 1024  # of the planes of one image


def display_windows(
    export: Export, bits_significant: int, *, is_color: bool
) -> list[dict[str, float]]:
    """``min``, ``max``, ``start`` and ``end`` of each channel, the same for all images.

    ``min`` and ``max`` are what pixels can be. ``start`` and ``end`` are percentiles (0.1 and 99.9)
    of the smallest level in the middle of t and z, of up to 16 images; colour, and images without a
    level that is small enough, are shown in full.
    """
    stack = export.stacks[0]
    level = stack.pyramid.levels[-1]
    axes = stack.pyramid.axes
    channels = level.shape[axes.index("c")]
    plane_bytes = stack.pyramid.itemsize * channels * level.shape[-1] * level.shape[-2]
    dtype = stack.pixels[0].dtype
    samples: NDArray[Any] | None = None
    if plane_bytes <= _MAX_BYTES and not (is_color and dtype.kind == "u"):
        chosen = sorted({int(i) for i in np.linspace(0, len(stack.paths) - 1, _MAX_IMAGES)})
        planes = [_middle_planes(export, stack, image) for image in chosen]
        samples = np.concatenate([plane.reshape(channels, -1) for plane in planes], axis=1)
    return [
        _window(dtype, bits_significant, None if samples is None else samples[channel])
        for channel in range(channels)
    ]


def _middle_planes(export: Export, stack: Stack, image: int) -> NDArray[Any]:
    """The planes in the middle of t and z of the smallest level, read from the destination."""
    number = len(stack.pyramid.levels) - 1
    level = stack.pyramid.levels[number]
    region = tuple(
        slice(size // 2, size // 2 + 1) if axis in "tz" else slice(0, size)
        for axis, size in zip(stack.pyramid.axes, level.shape, strict=True)
    )
    places = [
        range(part.start // shard, -(-part.stop // shard))
        for part, shard in zip(region, level.shards, strict=True)
    ]
    objects = {}
    for place in np.ndindex(*map(len, places)):
        at = [along[i] for along, i in zip(places, place, strict=True)]
        key = "/".join(["c", *map(str, at)])
        path = "/".join(filter(None, [stack.paths[image], str(number), key]))
        data = export.destination.read(path)
        if data is not None:
            objects[key] = data
    pixels = decoded_region(stack.documents[number], objects, region)
    return np.moveaxis(pixels, stack.pyramid.axes.index("c"), 0)


def _window(dtype: Any, bits: int, samples: NDArray[Any] | None) -> dict[str, float]:
    if dtype.kind == "f":
        finite = np.zeros(0) if samples is None else samples[np.isfinite(samples)]
        least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        most = most if most > least else least + 1.0
        return {"min": least, "max": most, "start": least, "end": most}
    unsigned = dtype.kind == "u"
    least, most = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    start, end = float(least), float(most)
    if samples is not None:
        low, high = (float(value) for value in np.percentile(samples, _WINDOW_PERCENTILES))
        most = max(most, int(samples.max()))
        if high > low:
            start, end = low, high
    return {"min": float(least), "max": float(most), "start": start, "end": end}
