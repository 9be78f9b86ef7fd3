"""Which levels there may be of an image, and how their chunks are called and stored."""

from __future__ import annotations

import numpy as np
import pytest

from xarray_nd2.format.container import CHUNK_HEADER
from xarray_nd2.format.layout import FrameLayout, FrameTable, ImageShape
from xarray_nd2.format.levels import level_size, possible_levels
from xarray_nd2.format.sequences import IMAGE_FRAMES, frames_ending_on_pages


def shape_of(height: int, width: int, samples: int = 1) -> ImageShape:
    return ImageShape(
        loops=(("T", 2),),
        channels=1,
        height=height,
        width=width,
        samples=samples,
        dtype=np.dtype("<u1"),
        row_stride_bytes=64 * width * samples,
        compression="lossless",
        sample_order=(2, 1, 0) if samples == 3 else (),
    )


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(1100, 1300, 1024), (1025, 3, 1024), (3, 1024, 512), (2048, 2048, 1024), (2049, 1, 2048)],
)
def test_a_level_is_called_by_half_the_power_of_two_that_holds_the_image(
    height: int, width: int, size: int
) -> None:
    assert level_size(height, width, 1) == size
    assert level_size(height, width, 2) == size // 2


def test_levels_of_an_image() -> None:
    levels = possible_levels(shape_of(2101, 13, 3))
    assert [level.number for level in levels] == [1, 2, 3]  # of one column
    assert [(each.image.height, each.image.width) for each in levels] == [
        (1050, 6),
        (525, 3),
        (262, 1),
    ]
    assert [each.image.row_stride_bytes for each in levels] == [20, 12, 4]
    assert levels[1].sequence.name == b"CustomDataSeq|DownsampledColorData_1024"
    image = levels[0].image
    assert (image.compression, image.sample_order, image.loops) == ("none", (2, 1, 0), (("T", 2),))
    assert possible_levels(shape_of(5000, 1)) == []


def test_levels_of_a_layout() -> None:
    """What a level is does not depend on where the frames of the image lie."""
    shape = shape_of(1100, 4)
    table = FrameTable.from_values(np.arange(2))
    (one, two), of_layout = (
        possible_levels(shape),
        possible_levels(FrameLayout.of(shape, table, table)),
    )
    assert [type(each.image) for each in of_layout] == [ImageShape] * 2
    assert [each.sequence for each in of_layout] == [one.sequence, two.sequence]


def test_data_that_ends_on_a_page() -> None:
    for frame_bytes in (715_000, 4096 - 78, 4096 - 77, 4000, 8192):
        sequence = frames_ending_on_pages(b"CustomDataSeq|DownsampledColorData_1024", frame_bytes)
        for number in (0, 9, 10, 10**6):
            name = np.array([len(sequence.chunk_name(number))])
            area = int(sequence.areas(sequence.usual_area_bytes, name)[0])
            assert (CHUNK_HEADER.size + area + frame_bytes) % 4096 == 0
            assert 20 <= area - name[0] < 4096 + 20
    assert frames_ending_on_pages(b"CustomDataSeq|DownsampledColorData_1024", 715_000) == (
        type(IMAGE_FRAMES)(b"CustomDataSeq|DownsampledColorData_1024", 0, 1784)
    )


def test_other_areas_grow_with_the_name() -> None:
    names = np.array([15, 16, 26])
    assert IMAGE_FRAMES.areas(16, names).tolist() == [16, 16, 26]
    assert IMAGE_FRAMES.areas(0, names).tolist() == [15, 16, 26]
    assert IMAGE_FRAMES.areas(4072, names).tolist() == [4072] * 3
    assert IMAGE_FRAMES.header_bytes == 48
