"""Lossless frames: zlib streams, inflated as their bytes arrive and only as far as is needed.

A frame is one stream of all its rows from the top, so a crop needs the stream up to its last row.
How many bytes that takes is not known before: a first piece is fetched by the share of the rows,
then more by the rate at which the stream was seen to inflate, until the last row is there.

ISA-L inflates 16-bit images in less than half of the time that zlib takes; it is used where it is
installed.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.layout import MAX_SURPLUS_BYTES

_zlib: ModuleType
try:
    from isal import isal_zlib as _zlib
except ImportError:  # no wheel for this machine
    _zlib = zlib

if TYPE_CHECKING:
    from collections.abc import Hashable
    from types import ModuleType

_INFLATE_ERRORS: Final[tuple[type[Exception], ...]] = (zlib.error, _zlib.error)
_FETCH_MARGIN: Final = 1.1  # fetched more than estimated, for rows do not all compress alike
_LEAST_FETCH_BYTES: Final = 4096
_WHOLE_STREAM_SHARE: Final = 0.85  # share of a stream that is not worth stopping at
_INFLATED_PIECE_BYTES: Final = 16 * 1024 * 1024  # bytes inflated at a time


class FrameStream:
    """The stream of one frame.

    Parameters
    ----------
    frame : int
        Sequence index, for errors.
    start, stop : int
        Where the stream lies in the file.
    first, needed : int
        Bytes of the frame: the first one to keep, and how many to inflate.
    frame_bytes : int
        Bytes of the whole frame. If all are needed, the end of the stream is checked as well.
    """

    def __init__(
        self, frame: int, start: int, stop: int, first: int, needed: int, frame_bytes: int
    ) -> None:
        self.frame = frame
        self.start = start
        self.at = start  # the next byte of the file that is wanted
        self.first = first
        self._stop = stop
        self._needed = needed
        self._whole = needed == frame_bytes
        self._rate = (stop - start) / frame_bytes  # bytes of the stream for one of the frame
        self._inflater: Any = _zlib.decompressobj()
        self._parts: list[bytes] = []
        self._inflated = 0

    @property
    def finished(self) -> bool:
        """Whether all that is needed is inflated, and checked if that is possible."""
        if self._inflater is None:
            return True
        return self._inflated >= self._needed and (not self._whole or self._inflater.eof)

    def take(self) -> bytes:
        """What is inflated, from the byte `first` of the frame; it is not kept here any longer."""
        pixels = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._inflater = [], None
        return pixels

    @property
    def fetch_to(self) -> int:
        """Byte of the file up to which to read next."""
        missing = (self._needed - self._inflated) * self._rate
        stop = self.at + int(missing * _FETCH_MARGIN) + _LEAST_FETCH_BYTES
        almost = self.start + int(_WHOLE_STREAM_SHARE * (self._stop - self.start))
        return self._stop if stop >= almost else stop

    @property
    def fetches_all(self) -> bool:
        """Whether what is read next is all that is left of the stream, and so no more is read."""
        return self.fetch_to == self._stop

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Inflate the next bytes of the stream.

        Raises
        ------
        ND2FormatError
            The stream is corrupt, or ends before what is needed.
        """
        self.at += len(data)
        try:
            self._inflate(data)
        except _INFLATE_ERRORS as error:
            raise ND2FormatError(
                f"frame {self.frame} does not inflate, near byte {self.at}: {error}"
            ) from error
        if not self.finished and (self.at >= self._stop or self._inflater.eof):
            what = "ends" if self._inflated < self._needed else "goes on"
            raise ND2FormatError(
                f"frame {self.frame} at byte {self.start} {what} after {self._inflated} bytes, "
                f"of which {self._needed} are needed"
            )
        if self._inflated:
            self._rate = max(self._rate / 4, (self.at - self.start) / self._inflated)

    def _inflate(self, data: bytes | bytearray | memoryview) -> None:
        # No more at a time, and in all, than is needed: a bomb does not get past it.
        while self._inflated < self._needed:
            part = self._inflater.decompress(
                data, min(_INFLATED_PIECE_BYTES, self._needed - self._inflated)
            )
            if not part:
                return
            kept = part[max(0, self.first - self._inflated) :]
            if kept:
                self._parts.append(kept)
            self._inflated += len(part)
            data = self._inflater.unconsumed_tail
        if self._whole and not self._inflater.eof:
            # The checksum follows; a frame may have a few bytes more than its rows.
            self._inflated += len(self._inflater.decompress(data, MAX_SURPLUS_BYTES))


class FrameCache:
    """The frames inflated last, so that their channels and crops nearby need not be inflated again.

    Parameters
    ----------
    capacity : int
        Bytes to keep; what was used longest ago goes first.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._frames: OrderedDict[Hashable, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def fits(self, size: int) -> bool:
        """Whether a frame of which so many bytes are inflated would be kept."""
        return size <= self._capacity

    def get(self, key: Hashable, needed: int) -> bytes | None:
        """Pixels of a frame, if at least `needed` bytes of them are kept."""
        with self._lock:
            pixels = self._frames.get(key)
            if pixels is None or len(pixels) < needed:
                return None
            self._frames.move_to_end(key)
            return pixels

    def put(self, key: Hashable, pixels: bytes) -> None:
        """Keep the pixels of a frame."""
        with self._lock:
            known = self._frames.pop(key, b"")
            self._size -= len(known)
            if len(known) > len(pixels):
                pixels = known
            if not self.fits(len(pixels)):
                return
            self._frames[key] = pixels
            self._size += len(pixels)
            while self._size > self._capacity:
                self._size -= len(self._frames.popitem(last=False)[1])
