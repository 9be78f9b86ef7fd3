"""The ND2 container: named chunks in a row, and a map of them at the end of the file.

A chunk is a header (magic number, length of the name area, length of the data), the name area (the
name, then zeros) and the data. Chunks start at multiples of 4096 bytes; the name area of metadata
is as long as it takes for the data to end at such a multiple.

Nothing here is shared with the code that reads: one misunderstanding must not hide another.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

__all__ = ["ChunkWriter"]

_ALIGNMENT = 4096
_HEADER = struct.Struct("<IIQ")
_MAGIC = 0x0ABECEDA
_MAP_VALUES = struct.Struct("<QQ")
_FILE_START = b"ND2 FILE SIGNATURE CHUNK NAME01!"
_MAP_START = b"ND2 FILEMAP SIGNATURE NAME 0001!"
_MAP_END = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_NAME_RESERVE = 20  # zeros that follow a name at least


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
        text = "Ver{}.{}".format(*version).encode("ascii").ljust(64, b"\0")
        self._write(_FILE_START, [text], len(_FILE_START))

    def append(self, name: str, *data: bytes | memoryview, name_area: int | None = None) -> None:
        """Write a chunk; without `name_area`, one that lets the data end at an alignment."""
        encoded = name.encode("ascii")
        offset = self._end
        self._entries.append((encoded, offset, self._write(encoded, data, name_area)))

    def finish(self, *, by_name: bool) -> None:
        """Write the map, sorted backwards `by_name` or as the chunks were written."""
        entries = sorted(self._entries, reverse=True) if by_name else self._entries
        location = self._end
        listed = b"".join(name + _MAP_VALUES.pack(*values) for name, *values in entries)
        listed += _MAP_END + _MAP_VALUES.pack(location, 0)
        footer = _MAP_END + struct.pack("<Q", location)
        # The map ends where the file ends, at an alignment, if its name area had no reserve.
        overhead = _HEADER.size + len(_MAP_START)
        length = _aligned(overhead + len(listed) + len(footer)) - overhead
        self._write(_MAP_START, [listed.ljust(length - len(footer), b"\0"), footer], None)

    def _write(self, name: bytes, data: Sequence[bytes | memoryview], area: int | None) -> int:
        length = sum(memoryview(part).nbytes for part in data)
        if area is None:
            shortest = _HEADER.size + len(name) + _NAME_RESERVE + length
            area = _aligned(shortest) - _HEADER.size - length
        head = _HEADER.pack(_MAGIC, area, length) + name.ljust(area, b"\0")
        for part in (head, *data):
            self._sink.write(part)
        end = self._end + len(head) + length
        self._end = _aligned(end)
        self._sink.write(bytes(self._end - end))
        return length


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
