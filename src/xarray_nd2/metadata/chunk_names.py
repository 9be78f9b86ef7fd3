"""The names of the metadata chunks, and what stands in for one that is lost."""

from __future__ import annotations

from typing import Final

TIMES_CHUNK: Final = b"CustomData|AcqTimesCache!"
"""Acquisition time of every frame: float64, milliseconds."""
NO_PICTURE: Final = (
    b'<variant><no_name><bCalibrated runtype="bool" value="false"/>'
    b'<dCalibration runtype="double" value="0"/>'
    b'<sPicturePlanes><uiCount runtype="lx_uint32" value="0"/></sPicturePlanes></no_name></variant>'
)
"""Picture metadata without planes or calibration, for a file that lost its own."""


def metadata_chunks(version: tuple[int, int]) -> dict[str, bytes]:
    """Names of the metadata chunks that an open file needs, by what they hold."""
    suffix = b"LV" if version[0] >= 3 else b""
    return {
        "attributes": b"ImageAttributes" + suffix + b"!",
        "picture": b"ImageMetadataSeq" + suffix + b"|0!",
        "experiment": b"ImageMetadata" + suffix + b"!",
        "text": b"ImageTextInfo" + suffix + b"!",
    }
