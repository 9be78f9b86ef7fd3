"""Files of `write_nd2`, and a few lines that read them and share nothing with the package."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import nd2
import numpy as np

from xarray_nd2.testing import write_nd2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONTAINER_VERSIONS = [(3, 0), (2, 1)]


def pixels(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    """Values that differ from their neighbours and are never zero."""
    values = np.random.default_rng(sum(shape)).integers(1, 250, shape)
    return values.astype(dtype)


def written(data: Any, dims: str | Sequence[str], **options: Any) -> bytes:
    file = io.BytesIO()
    write_nd2(file, data, dims, **options)
    return file.getvalue()


def opened(data: Any, dims: str | Sequence[str], **options: Any) -> nd2.ND2File:
    return nd2.ND2File(io.BytesIO(written(data, dims, **options)))


def outermost_loop_parameters(read: nd2.ND2File) -> Any:
    """Parameters of the outermost loop, of whatever type."""
    return read.experiment[0].parameters


def channels_of(read: nd2.ND2File) -> list[Any]:
    return list(read.metadata.channels or ())


class Chunk(NamedTuple):
    offset: int
    name_area: bytes
    data: bytes
    length_in_map: int


def chunks_of(file: bytes) -> dict[str, Chunk]:
    """Chunks by name, in the order of the map."""
    end_name = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    assert file[-40:-8] == end_name
    (location,) = struct.unpack("<Q", file[-8:])
    listed = chunk_at(file, location)
    assert listed.name_area.rstrip(b"\0") == b"ND2 FILEMAP SIGNATURE NAME 0001!"
    chunks = {}
    entries = listed.data
    while not entries.startswith(end_name):
        name, bang, rest = entries.partition(b"!")
        offset, length = struct.unpack("<QQ", rest[:16])
        chunks[(name + bang).decode()] = chunk_at(file, offset)._replace(length_in_map=length)
        entries = rest[16:]
    assert struct.unpack("<QQ", entries[32:48]) == (location, 0)
    assert not any(entries[48:-40])
    return chunks


def chunk_at(file: bytes, offset: int) -> Chunk:
    magic, name_area, length = struct.unpack("<IIQ", file[offset : offset + 16])
    assert magic == 0x0ABECEDA
    start = offset + 16 + name_area
    return Chunk(offset, file[offset + 16 : start], file[start : start + length], -1)


def frame_of(file: bytes, i: int, dtype: str, stride: int, *shape: int) -> NDArray[Any]:
    """Pixels of a frame as (Y, X, component)."""
    rows = np.frombuffer(chunks_of(file)[f"ImageDataSeq|{i}!"].data, "u1", offset=8)
    height, width, components = shape
    row_bytes = width * components * np.dtype(dtype).itemsize
    return rows.reshape(height, stride)[:, :row_bytes].copy().view(dtype).reshape(shape)


def raw_attributes(file: bytes) -> dict[str, Any]:
    with nd2.ND2File(io.BytesIO(file)) as read:
        return dict(read.unstructured_metadata()["ImageAttributesLV"]["SLxImageAttributes"])


def raw_metadata(file: bytes, name: str) -> Any:
    """A chunk of metadata under the vendor's names, of either version."""
    with nd2.ND2File(io.BytesIO(file)) as read:
        raw: Any = read.unstructured_metadata(strip_prefix=False)
    lite = {
        "ImageMetadata": ("ImageMetadataLV", "SLxExperiment"),
        "ImageMetadataSeq|0": ("ImageMetadataSeqLV|0", "SLxPictureMetadata"),
    }
    chunk, root = lite[name]
    return raw[chunk][root] if chunk in raw else raw[name]


def raw_picture(file: bytes) -> Any:
    return raw_metadata(file, "ImageMetadataSeq|0")


def raw_experiment(file: bytes) -> Any:
    return raw_metadata(file, "ImageMetadata")
