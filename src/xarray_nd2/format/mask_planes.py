"""Where the masks of a file lie: planes of object numbers, a layer of them for each analysis.

Each plane is a chunk of its own, ``CustomDataSeq|<sequence of the layer>|<number of the frame>!``. Its
data start where its own header says, so what is known without reading it is only where the chunk starts,
how long its data are by the map, and where the next chunk starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.container import CHUNK_ALIGNMENT_BYTES, CHUNK_HEADER
from xarray_nd2.format.layout import FrameTable, ImageShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from xarray_nd2.format.chunk_map import ChunkMap

LAYER_DIM: Final = "layer"
OBJECT_DTYPE: Final = np.dtype("<u4")
"""Of the numbers of objects, as stored: no smaller type holds all that a file may have."""
_SEQUENCE_PREFIX: Final = b"CustomDataSeq|"
_MAX_NAME_AREA_BYTES: Final = 2 * CHUNK_ALIGNMENT_BYTES
_MAX_PLANES: Final = 2**26  # layers times frames, present or not


@dataclass(frozen=True, slots=True)
class MaskChunk:
    """The chunk of one plane.

    Attributes
    ----------
    plane : int
        Number of the plane, in row-major order over layers and loops.
    name : bytes
        Of the chunk, with its final ``!``.
    offset, stop : int
        Bytes of the file that hold it, and no other chunk.
    length : int
        Bytes of its data by the map; -1 where unknown.
    """

    plane: int
    name: bytes
    offset: int
    stop: int
    length: int


@dataclass(frozen=True, eq=False, slots=True)
class MaskPlanes:
    """The shape of the masks, and where their planes are.

    Attributes
    ----------
    grid : ImageShape
        Of the masks, as of an image of one channel: its loops are ``layer`` and those of the image.
    sequences : tuple of bytes
        For each layer the name of its sequence of chunks.
    number : FrameTable
        Numbers of the planes that the file has, ascending, in row-major order over layers and loops.
    offset, stop, length : FrameTable
        Of the chunk of each of them, as in `MaskChunk`.
    """

    grid: ImageShape
    sequences: tuple[bytes, ...]
    number: FrameTable
    offset: FrameTable
    stop: FrameTable
    length: FrameTable

    @classmethod
    def of(
        cls, image: ImageShape, tags: Sequence[bytes], chunk_map: ChunkMap, file_bytes: int
    ) -> MaskPlanes:
        """Planes of layers by the map.

        Parameters
        ----------
        image : ImageShape
            The image that the masks are of.
        tags : sequence of bytes
            For each layer its part of the chunks' names.
        chunk_map : ChunkMap
            Of the file. Planes of frames that the image does not have are left out; of several
            chunks for one plane the first counts, and when it is read its name must be right.
        file_bytes : int
            Size of the file.

        Raises
        ------
        ND2FormatError
            There are more planes than can be.
        """
        frames = image.frame_count
        if len(tags) * frames > _MAX_PLANES:
            raise ND2FormatError(f"{len(tags)} layers of masks of {frames} frames are too many")
        sequences = tuple(_SEQUENCE_PREFIX + tag for tag in tags)
        columns = []
        for layer, sequence in enumerate(sequences):
            chunks = chunk_map.numbered.of_sequence(sequence)
            numbers, first = np.unique(chunks.number, return_index=True)
            first = first[numbers < frames]
            plane = layer * frames + chunks.number[first]
            columns.append(np.stack([plane, chunks.offset[first], chunks.length[first]]))
        number, offset, length = np.concatenate(columns, axis=1)
        to_next = chunk_map.bytes_to_next_chunk(offset)
        stop = np.where(to_next < 0, file_bytes, offset + to_next)
        longest = offset + CHUNK_HEADER.size + _MAX_NAME_AREA_BYTES + length
        stop = np.minimum(stop, np.where(length < 0, stop, longest))
        tables = (FrameTable.from_values(each) for each in (number, offset, stop, length))
        grid = ImageShape(
            loops=((LAYER_DIM, len(tags)), *image.loops),
            channels=1,
            height=image.height,
            width=image.width,
            samples=1,
            dtype=OBJECT_DTYPE,
            row_stride_bytes=image.width * OBJECT_DTYPE.itemsize,
            compression="lossless",
        )
        return cls(grid, sequences, *tables)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions: ``layer``, loops, Y, X."""
        return (*(name for name, _ in self.grid.loops), "Y", "X")

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension."""
        return (*self.grid.loop_shape, self.grid.height, self.grid.width)

    def chunks_of(self, planes: NDArray[np.int64]) -> list[MaskChunk]:
        """The chunks of planes, as far as the file has them, in the order of the file.

        Parameters
        ----------
        planes : ndarray of int64, shape (n,)
            Numbers of planes, distinct.
        """
        at = np.flatnonzero(np.isin(self.number.values(), planes, assume_unique=True))
        frames = math.prod(self.grid.loop_shape[1:])
        columns = (self.number, self.offset, self.stop, self.length)
        chunks = [
            MaskChunk(plane, b"%s|%d!" % (self.sequences[plane // frames], plane % frames), *extent)
            for plane, *extent in zip(*(each.take(at).tolist() for each in columns), strict=True)
        ]
        return sorted(chunks, key=lambda chunk: chunk.offset)

    def present(self) -> NDArray[np.bool_]:
        """Whether there is a mask, by layer and loops: its chunk has data enough for one."""
        present = np.zeros(self.grid.frame_count, bool)
        length = self.length.values()
        present[self.number.values()[(length < 0) | (length >= OBJECT_DTYPE.itemsize)]] = True
        return present.reshape(self.grid.loop_shape)
