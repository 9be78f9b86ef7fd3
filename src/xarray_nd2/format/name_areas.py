"""How far into their chunks the data of frames starts: what their headers say, and what that proves.

The data lies behind the name area, whose length the header tells. One flipped bit of that length
would move every pixel, so one header alone is believed only where it tells one of the usual lengths;
any other length takes two headers that agree.

The frames of a file have a *name area* of one length, or of the length of the name where that is
longer. So 0 stands for the area that is exactly as long as the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.format.container import CHUNK_ALIGNMENT_BYTES, CHUNK_HEADER, parse_chunk_header
from xarray_nd2.format.sequences import IMAGE_FRAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xarray_nd2.format.sequences import FrameSequence

TIGHT_NAME_AREA_BYTES: Final = 0
"""Name area that is as long as the name."""

_LEAST_PADDING_BYTES: Final = 16  # of an area whose length one flipped bit makes that of the name


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What is read of the start of a frame's chunk.

    Attributes
    ----------
    offset : int
        Where in the file the chunk starts.
    name_bytes, area_bytes, data_bytes : int
        Length of the name, of the area for it, and of the data.
    zeros_behind : int
        Zero bytes that follow the name, as far as they were read.
    room_bytes : int
        From the chunk's start to the next one, by the map; -1 if none follows.
    sequence : FrameSequence
        That the frame is one of.
    """

    offset: int
    name_bytes: int
    area_bytes: int
    data_bytes: int
    zeros_behind: int
    room_bytes: int
    sequence: FrameSequence

    @property
    def data_offset(self) -> int:
        """Byte of the file at which the data starts."""
        return self.offset + CHUNK_HEADER.size + self.area_bytes

    def fits(self, area_bytes: int) -> bool:
        """Whether data behind such an area ends where the alignment lets the next chunk start."""
        end = CHUNK_HEADER.size + area_bytes + self.data_bytes
        return 0 <= self.room_bytes - end < CHUNK_ALIGNMENT_BYTES

    @property
    def may_fit(self) -> bool:
        """Whether it fits its own area, as far as the map tells what follows."""
        return self.room_bytes < 0 or self.fits(self.area_bytes)

    def may_have(self, area_bytes: int) -> bool:
        """Whether zeros follow the name up to the end of such an area."""
        end = min(CHUNK_HEADER.size + area_bytes, self.sequence.header_bytes)
        return CHUNK_HEADER.size + self.name_bytes + self.zeros_behind >= end

    def agrees(self, area_bytes: int) -> bool:
        """Whether this frame has the name area of a file whose frames have this one."""
        own = int(self.sequence.areas(area_bytes, np.array(self.name_bytes)))
        return self.area_bytes == own and self.may_have(own)

    @property
    def told(self) -> int | None:
        """The usual name area that this header tells, None where it leaves a doubt."""
        if self.agrees(self.sequence.usual_area_bytes):
            return self.sequence.usual_area_bytes
        # An area as long as the longest name is tight for that frame, too, so only the shortest
        # name tells. Many zeros may be padding; fewer are a time of 0.
        tight = self.area_bytes == self.name_bytes == len(self.sequence.chunk_name(0))
        return TIGHT_NAME_AREA_BYTES if tight and self.zeros_behind < _LEAST_PADDING_BYTES else None

    @property
    def is_proof(self) -> bool:
        """Whether it tells where the data is without another header."""
        return self.told is not None and self.fits(self.area_bytes)

    def tells_place(self, area_bytes: int | None) -> bool:
        """Whether it tells where its own data is in a file whose name area is known, or None."""
        return self.is_proof or (area_bytes is not None and self.agrees(area_bytes))


def parse_frame_header(
    buffer: bytes,
    sequence_index: int,
    offset: int,
    room_bytes: int,
    sequence: FrameSequence = IMAGE_FRAMES,
) -> FrameHeader:
    """Parse the header of a frame's chunk.

    Parameters
    ----------
    buffer : bytes
        The file's bytes from `offset` on, as many as a header of the sequence has.
    sequence_index : int
        Number of the frame.
    offset : int
        Where in the file the chunk starts.
    room_bytes : int
        Bytes to the next chunk, -1 if none follows.
    sequence : FrameSequence, optional
        That the frame is one of; those of the image unless given.

    Raises
    ------
    ND2FormatError
        This is not the header of that frame.
    """
    name = sequence.chunk_name(sequence_index)
    skip, data_bytes = parse_chunk_header(buffer, name, offset)
    start = CHUNK_HEADER.size + len(name)
    zeros = len(buffer) - start - len(buffer[start:].lstrip(b"\0"))
    area_bytes = skip - CHUNK_HEADER.size
    return FrameHeader(offset, len(name), area_bytes, data_bytes, zeros, room_bytes, sequence)


def agreed_name_area(headers: Sequence[FrameHeader]) -> int | None:
    """The name area of a file's frames: the one that most of some headers agree about.

    Returns
    -------
    int or None
        None where the headers prove none: no two of them agree and none tells a usual one, or as
        many are for another.
    """
    if not headers:
        return None
    usual = (headers[0].sequence.usual_area_bytes, TIGHT_NAME_AREA_BYTES)
    ranked: list[tuple[tuple[int, int, bool, bool], int | None]] = []
    for area in {*usual, *(header.area_bytes for header in headers)}:
        agreeing = [header for header in headers if header.agrees(area)]
        fitting = sum(header.fits(header.area_bytes) for header in agreeing)
        # What one header tells against the map's room is no proof; that of others is.
        told = any(header.told == area and header.may_fit for header in agreeing)
        proven = told or len(agreeing) > 1 or (area in usual and _is_undisputed(headers))
        rank = (len(agreeing), fitting, told, area in usual)
        ranked.append((rank, area if proven else None))
    (most, area_bytes), (next_most, _) = sorted(ranked, key=itemgetter(0), reverse=True)[:2]
    return area_bytes if most > next_most else None


def _is_undisputed(headers: Sequence[FrameHeader]) -> bool:
    """Whether there is but one header, and no usual name area that its frame could have instead."""
    usual = headers[0].sequence.usual_area_bytes
    return len(headers) == 1 and not (headers[0].may_have(usual) and headers[0].fits(usual))


def data_starts(
    name_area_bytes: int, count: int, sequence: FrameSequence = IMAGE_FRAMES
) -> NDArray[np.int64]:
    """Bytes from the start of the chunk of each of `count` frames to its data."""
    digits = np.searchsorted(10 ** np.arange(1, 19), np.arange(count), side="right")
    return CHUNK_HEADER.size + sequence.areas(name_area_bytes, len(sequence.chunk_name(0)) + digits)
