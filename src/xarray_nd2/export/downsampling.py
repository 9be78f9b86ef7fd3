"""Images of half the height and width; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def halved_by_means(pixels: NDArray[Any]) -> NDArray[Any]:
    """Means of 2 x 2 pixels.

    Parameters
    ----------
    pixels : ndarray
        Shape (..., height, width), integers or floats.

    Returns
    -------
    ndarray
        Shape (..., height // 2, width // 2) and the same dtype. Means of integers are exact, and
        halves are rounded up; a last row or column without a partner is left out.

    Examples
    --------
    >>> halved_by_means(np.array([[1, 2, 9], [2, 1, 9]], "uint8"))
    array([[2]], dtype=uint8)
    """
    height, width = (size // 2 * 2 for size in pixels.shape[-2:])
    if pixels.dtype.kind == "f":
        wide: np.dtype[Any] = np.dtype("float64" if pixels.dtype.itemsize > 2 else "float32")
    else:
        wide = np.dtype(f"{pixels.dtype.kind}{min(8, 2 * pixels.dtype.itemsize)}")
    rows = np.add(
        pixels[..., 0:height:2, :width], pixels[..., 1:height:2, :width], dtype=wide, casting="safe"
    )
    sums = rows[..., 0::2] + rows[..., 1::2]
    if pixels.dtype.kind == "f":
        sums /= 4
    else:
        sums += 2
        sums >>= 2
    means: NDArray[Any] = sums.astype(pixels.dtype)
    return means


def halved_by_picking(pixels: NDArray[Any]) -> NDArray[Any]:
    """The first of each 2 x 2 pixels, for numbers of objects, of which there are no means.

    Shapes are those of `halved_by_means`.

    Examples
    --------
    >>> halved_by_picking(np.array([[1, 2, 9], [2, 1, 9]]))
    array([[1]])
    """
    height, width = (size // 2 * 2 for size in pixels.shape[-2:])
    picked: NDArray[Any] = pixels[..., 0:height:2, 0:width:2]
    return picked
