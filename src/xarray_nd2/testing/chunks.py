"""The ND2 container: named chunks in a row, and a map of them at the end of the file.

A chunk is a header (magic number, length of the name area, length of the data), the name area (the
name, then zeros) and the data. Chunks start at multiples of `CHUNK_ALIGNMENT_BYTES` bytes; the name
area of metadata is as long as it takes for the data to end at such a multiple.

The constants are those of the code that reads, the rest is not shared with it; the tests of the
writer read with constants of their own.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from xarray_nd2.format.container import (
    CHUNK_ALIGNMENT_BYTES,
    CHUNK_HEADER,
    CHUNK_MAGIC,
    FILE_SIGNATURE,
    MAP_NAME,
    MAP_SIGNATURE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

__all__ = ["MAP_ENTRY_VALUES", "ChunkWriter"]

MAP_ENTRY_VALUES = struct.Struct("<QQ")  # after each name of the map: offset, length of the data

_VERSION_BYTES = 64  # of the data of the first chunk
_MIN_NAME_PADDING_BYTES = 20  # zeros that follow a name at least


class ChunkWriter:
    """Chunks written one behind the other, each remembered for the map.

    Parameters
    ----------
    sink : binary file object
        Only written to, from its start.
    version : (int, int)
        Version of the container, each number of one digit.
    """

    def __init__(self, sink: BinaryIO, version: tuple[int, int]) -> None:
        self._sink = sink
        self._end = 0
        self._entries: list[tuple[bytes, int, int]] = []
        text = "Ver{}.{}".format(*version).encode("ascii").ljust(_VERSION_BYTES, b"\0")
        self._write_chunk(FILE_SIGNATURE, [text], len(FILE_SIGNATURE))

    def append(self, name: str, *data: bytes | memoryview, name_area: int | None = None) -> None:
        """Write a chunk; without `name_area`, one that lets the data end at an alignment."""
        encoded = name.encode("ascii")
        offset = self._end
        self._entries.append((encoded, offset, self._write_chunk(encoded, data, name_area)))

    def finish(self, *, by_name: bool) -> None:
        """Write the map, sorted backwards `by_name` or as the chunks were written."""
        entries = sorted(self._entries, reverse=True) if by_name else self._entries
        location = self._end
        listed = b"".join(name + MAP_ENTRY_VALUES.pack(*values) for name, *values in entries)
        listed += MAP_SIGNATURE + MAP_ENTRY_VALUES.pack(location, 0)
        footer = MAP_SIGNATURE + struct.pack("<Q", location)
        # The map ends where the file ends, at an alignment, if its name area had no reserve.
        overhead = CHUNK_HEADER.size + len(MAP_NAME)
        length = _aligned(overhead + len(listed) + len(footer)) - overhead
        self._write_chunk(MAP_NAME, [listed.ljust(length - len(footer), b"\0"), footer], None)

    def _write_chunk(
        self, name: bytes, data: Sequence[bytes | memoryview], area: int | None
    ) -> int:
        length = sum(memoryview(part).nbytes for part in data)
        if area is None:
            shortest = CHUNK_HEADER.size + len(name) + _MIN_NAME_PADDING_BYTES + length
            area = _aligned(shortest) - CHUNK_HEADER.size - length
        head = CHUNK_HEADER.pack(CHUNK_MAGIC, area, length) + name.ljust(area, b"\0")
        for part in (head, *data):
            self._sink.write(part)
        end = self._end + len(head) + length
        self._end = _aligned(end)
        self._sink.write(bytes(self._end - end))
        return length


def _aligned(size: int) -> int:
    return -(-size // CHUNK_ALIGNMENT_BYTES) * CHUNK_ALIGNMENT_BYTES
