"""The file without its pixels."""

from __future__ import annotations

from tests.format.test_container import SIGNATURE
from xarray_nd2.format.chunk_map import parse_chunk_map
from xarray_nd2.format.container import MAP_NAME, parse_chunk_header, parse_footer
from xarray_nd2.format.skeleton import build_skeleton


def test_skeleton_is_a_file() -> None:
    skeleton = build_skeleton(SIGNATURE, {b"A!": b"abc", b"B|0!": b"x" * 5000})
    location = parse_footer(skeleton[-40:], len(skeleton))
    start, length = parse_chunk_header(skeleton[location:], MAP_NAME, location)
    data = skeleton[location + start : location + start + length]
    chunks = parse_chunk_map(data, location).chunks
    assert {name: extent.length for name, extent in chunks.items()} == {b"A!": 3, b"B|0!": 5000}
    for name, extent in chunks.items():
        skip, size = parse_chunk_header(skeleton[extent.offset :], name, extent.offset)
        assert skeleton[extent.offset + skip :][:size] in (b"abc", b"x" * 5000)
