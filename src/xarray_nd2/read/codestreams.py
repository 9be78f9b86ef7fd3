"""Frames of legacy files: JPEG 2000 codestreams, each of one channel of one frame.

A codestream is decoded whole, with a library that is an extra: what a file says of itself can be read
without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format.boxes import CODESTREAM_BOX, box_data
from xarray_nd2.format.codestream import check_codestream

if TYPE_CHECKING:
    from collections.abc import Callable

    from xarray_nd2.format.layout import FrameLayout


def jpeg2000_decoder() -> Callable[[bytes], Any]:
    """The function that decodes a codestream.

    Raises
    ------
    ND2UnsupportedError
        The library that has it is not installed.
    """
    try:
        from imagecodecs import jpeg2k_decode
    except ImportError as error:
        raise ND2UnsupportedError(
            "the pixels of a legacy ND2 (version 1) are JPEG 2000 codestreams, which imagecodecs "
            f'decodes: pip install "xarray-nd2[legacy]" ({error})'
        ) from error
    decode: Callable[[bytes], Any] = jpeg2k_decode
    return decode


class CodestreamFrame:
    """The codestream of one channel of one frame, read whole; used like a `FrameStream`.

    Parameters
    ----------
    layout : FrameLayout
        Of the file.
    frame, start, stop : int
        Number of the codestream, and the bytes of the file that hold its box.
    """

    first = 0
    """Byte of the frame from which on pixels are kept."""
    fetches_all = True
    """Whether what is read next is all."""

    def __init__(self, layout: FrameLayout, frame: int, start: int, stop: int) -> None:
        self.frame, self.start, self.at, self.fetch_to = frame, start, start, stop
        self.finished = False
        self._layout = layout
        self._pixels = b""

    def take(self) -> bytes:
        """The decoded pixels; they are not kept here any longer."""
        pixels, self._pixels = self._pixels, b""
        return pixels

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Decode the box.

        Raises
        ------
        ND2FormatError
            It holds no codestream of the image's size, or a damaged one.
        ND2UnsupportedError
            The library that decodes it is not installed.
        """
        decode, layout = jpeg2000_decoder(), self._layout
        try:
            codestream = box_data(bytes(data), self.start, CODESTREAM_BOX)
            check_codestream(
                codestream, layout.height, layout.width, layout.samples, layout.dtype.itemsize
            )
            pixels = np.asarray(decode(codestream))
        except Exception as error:
            what = error.message if isinstance(error, ND2FormatError) else error
            raise ND2FormatError(
                f"{layout.name_of(self.frame)} at byte {self.start} cannot be decoded: {what}"
            ) from error
        if pixels.nbytes != layout.frame_bytes or pixels.dtype.itemsize != layout.dtype.itemsize:
            raise ND2FormatError(
                f"{layout.name_of(self.frame)} at byte {self.start} decodes to {pixels.shape} "
                f"values of {pixels.dtype}"
            )
        self._pixels = pixels.astype(layout.dtype, copy=False).tobytes()
        self.at, self.finished = self.fetch_to, True
