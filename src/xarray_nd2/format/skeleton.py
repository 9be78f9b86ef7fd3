"""The metadata skeleton: a file without its pixels, for a library that reads whole files.

Chunks of metadata are written back to back into a small valid ND2 file in memory.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from xarray_nd2.format.container import (
    CHUNK_ALIGNMENT_BYTES,
    CHUNK_HEADER,
    CHUNK_MAGIC,
    FILE_FOOTER,
    MAP_NAME,
    MAP_SIGNATURE,
    SIGNATURE_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def build_skeleton(signature: bytes, chunks: Mapping[bytes, bytes]) -> bytes:
    """Write chunks back to back into a small valid ND2 file.

    Parameters
    ----------
    signature : bytes
        The first `SIGNATURE_BYTES` bytes of the original file.
    chunks : mapping of bytes to bytes
        Data of each chunk by name, the name with its final ``!``.

    Returns
    -------
    bytes
        The file: signature, chunks, chunk map.
    """
    parts = [_padded(signature[:SIGNATURE_BYTES])]
    position = len(parts[0])
    entries = []
    for name, data in chunks.items():
        parts.append(_padded(CHUNK_HEADER.pack(CHUNK_MAGIC, len(name), len(data)) + name + data))
        entries.append(name + struct.pack("<QQ", position, len(data)))
        position += len(parts[-1])
    entries.append(FILE_FOOTER.pack(MAP_SIGNATURE, position))
    entry_data = b"".join(entries)
    header = CHUNK_HEADER.pack(CHUNK_MAGIC, len(MAP_NAME), len(entry_data))
    return b"".join([*parts, header, MAP_NAME, entry_data])


def _padded(chunk: bytes) -> bytes:
    return chunk + bytes(-len(chunk) % CHUNK_ALIGNMENT_BYTES)
