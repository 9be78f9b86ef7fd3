"""The image attributes, for which alone a file is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.metadata.trees import branch
from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.metadata.dimensions import component_count, read_image_shape
from xarray_nd2.metadata.loops import StoredFrames
from xarray_nd2.metadata.picture_planes import Components

SOUND: dict[str, Any] = {
    "uiWidth": 4,
    "uiHeight": 3,
    "uiWidthBytes": 8,
    "uiComp": 1,
    "uiBpcInMemory": 16,
    "ePixelType": 1,
    "eCompression": 2,
}
ODD_VALUES: tuple[Any, ...] = (
    {"a": 1},
    {},
    "text",
    "",
    2.5,
    float("nan"),
    b"bytes",
    [1],
    None,
    -(2**40),
    2**70,
)


def shape_of(**changes: Any) -> Any:
    attributes = branch(**SOUND | changes)
    components = Components(component_count(attributes), 1)
    return read_image_shape(attributes, components, [], StoredFrames(10_000, 10_000, np.arange(1)))


def test_sound_attributes() -> None:
    shape = shape_of()
    assert (shape.height, shape.width, shape.row_stride_bytes) == (3, 4, 8)
    assert shape.dtype == np.dtype("<u2")
    assert shape.compression == "none"


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
@pytest.mark.parametrize("name", SOUND)
def test_attributes_of_another_kind_refuse_a_file(name: str, value: Any) -> None:
    """Nothing else is raised; of an unknown number what is usual may be taken."""
    is_number = isinstance(value, int) and name in ("ePixelType", "eCompression")
    if is_number and abs(value) < 2**63:
        assert shape_of(**{name: value}).frame_bytes == 24
        return
    with pytest.raises((ND2FormatError, ND2UnsupportedError)):
        shape_of(**{name: value})


@pytest.mark.parametrize("name", ["ePixelType", "eCompression"])
def test_what_old_files_do_not_say_is_as_usual(name: str) -> None:
    attributes = {key: value for key, value in SOUND.items() if key != name}
    made = read_image_shape(
        branch(**attributes), Components(1, 1), [], StoredFrames(10_000, 10_000, np.arange(1))
    )
    assert made.dtype == np.dtype("<u2")
    assert made.compression == "none"
