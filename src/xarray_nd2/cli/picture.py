"""From pixels to a picture: contrast, colours, size. No reading."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xarray_nd2.cli.picture_pixels import PicturePixels

_MAX_HEIGHT_PIXELS: Final = 8192
_WHITE_RGB: Final = (1.0, 1.0, 1.0)


def compose(pixels: PicturePixels, width: int, contrast: tuple[float, float]) -> Image.Image:
    """Make a picture.

    Parameters
    ----------
    pixels : PicturePixels
        What is shown.
    width : int
        Of the picture, in pixels.
    contrast : tuple of float
        Percentiles of each channel that are black and full.

    Returns
    -------
    PIL.Image.Image
        RGB, 8 bits.
    """
    height = max(1, min(_MAX_HEIGHT_PIXELS, round(width * pixels.height_per_width)))
    if pixels.colors is None:
        light = _colour(pixels.values, pixels.bits)
        planes = [_resized(light[..., number], width, height) for number in range(3)]
        return _as_picture(np.stack(planes, axis=-1))
    light = np.zeros((height, width, 3), np.float32)
    for values, color in zip(pixels.values, pixels.colors, strict=True):
        plane = _resized(_stretched(values, contrast), width, height)
        light += plane[..., None] * np.array(_rgb(color), np.float32)
    return _as_picture(light)


def _stretched(values: NDArray[Any], contrast: tuple[float, float]) -> NDArray[np.float32]:
    """A channel from 0 to 1 between its percentiles; what is no number is black."""
    values = values.astype(np.float32)
    known = values[np.isfinite(values)]
    if not known.size:
        return np.zeros_like(values)
    low, high = np.percentile(known, contrast)
    if high <= low:  # few pixels differ, or none
        low, high = known.min(), known.max()
    scaled = (values - low) / max(float(high - low), np.finfo(np.float32).tiny)
    known_scaled = np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0)
    return np.asarray(known_scaled.clip(0, 1), np.float32)


def _colour(values: NDArray[Any], bits: int | None) -> NDArray[np.float32]:
    """Red, green and blue from 0 to 1, as stored."""
    light = values[..., :3].astype(np.float32)
    if np.issubdtype(values.dtype, np.integer):
        return light / np.float32(2 ** (bits or 8 * values.dtype.itemsize) - 1)
    return np.nan_to_num(light)


def _resized(plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """A plane in another size; pixels that come apart are averaged, others interpolated."""
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _as_picture(light: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray((light.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def _rgb(color: str) -> tuple[float, ...]:
    """Red, green and blue from 0 to 1 of ``#rrggbb``; white where the file tells none."""
    known = re.fullmatch(r"#([0-9a-fA-F]{6})", color)
    return tuple(part / 255 for part in bytes.fromhex(known[1])) if known else _WHITE_RGB
