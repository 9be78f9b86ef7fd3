"""The names of the metadata chunks."""

from __future__ import annotations

from typing import Final

TIMES_CHUNK: Final = b"CustomData|AcqTimesCache!"
"""Acquisition time of every frame: float64, milliseconds."""
STAGE_CHUNKS: Final = {axis: f"CustomData|{axis.upper()}!".encode() for axis in "xyz"}
"""Recorded place of the stage at every frame, "X Coord", "Y Coord" and "Z Coord": float64, µm."""
WELLS_CHUNK: Final = b"CustomData|WellPlateFrameInfoZJSON!"
"""The well of every frame: JSON, compressed."""
PLATE_CHUNK: Final = b"CustomData|WellPlateDesc_0!"
"""Describes the plate."""


def metadata_chunks(version: tuple[int, int]) -> dict[str, bytes]:
    """Names of the metadata chunks that an open file needs, by what they hold."""
    suffix = b"LV" if version[0] >= 3 else b""
    return {
        "attributes": b"ImageAttributes" + suffix + b"!",
        "picture": b"ImageMetadataSeq" + suffix + b"|0!",
        "experiment": b"ImageMetadata" + suffix + b"!",
        "text": b"ImageTextInfo" + suffix + b"!",
    }
