# ruff: noqa: INP001  (a program, not a package)
"""Fuzz the opening and reading of files, guided by coverage.

An input is a byte that says what the others are: a whole file (0), or the data of one of the
metadata chunks of a sound file. See the README beside this file.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["xarray_nd2", "nd2"]):
    from tests.damage import chunk_entries, chunk_parts, examine, rewritten
    from xarray_nd2.testing import write_legacy_nd2, write_nd2

    _first = io.BytesIO()
    write_nd2(_first, np.zeros((2, 2), "uint8"), "YX")
    examine(_first.getvalue())  # what is imported late is to be instrumented too

CHUNKS = ["ImageAttributes{}!", "ImageMetadataSeq{}|0!", "ImageMetadata{}!", "ImageTextInfo{}!"]


def sound_file(version: tuple[int, int] = (3, 0), compression: str | None = None) -> bytes:
    """Write a small file with all kinds of metadata."""
    file = io.BytesIO()
    frames = np.arange(2 * 2 * 2 * 6 * 5, dtype="uint16").reshape(2, 2, 2, 6, 5)
    write_nd2(
        file,
        frames,
        "PZCYX",
        positions=["a", "b"],
        stage_positions=[(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)],
        timestamps=[0.0, 1.0, 2.0, 3.0],
        text_info={"description": "d", "optics": "20x"},
        version=version,
        compression=compression,  # type: ignore[arg-type]
        name_area=40,
    )
    return file.getvalue()


def legacy_file() -> bytes:
    """Write a small file of version 1."""
    file = io.BytesIO()
    frames = np.arange(2 * 2 * 2 * 6 * 5, dtype="uint16").reshape(2, 2, 2, 6, 5)
    write_legacy_nd2(file, frames, "PZCYX", stage_positions=[(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)])
    return file.getvalue()


FILES = [sound_file(), sound_file((2, 1)), sound_file(compression="lossless")]
PLACES = [(0, chunk.format("LV")) for chunk in CHUNKS] + [(1, chunk.format("")) for chunk in CHUNKS]


def seeds(folder: Path) -> None:
    """Write the inputs to start from: the sound files, and each of their metadata chunks."""
    for number, data in enumerate([*FILES, legacy_file()]):
        (folder / f"file-{number}").write_bytes(b"\0" + data)
    for number, (which, name) in enumerate(PLACES, start=1):
        place = chunk_entries(FILES[which])[name.encode()]
        _, start, stop = chunk_parts(FILES[which], place)
        (folder / f"chunk-{number}").write_bytes(bytes([number]) + FILES[which][start:stop])


def test_one_input(data: bytes) -> None:
    """Examine one input; whatever is raised is a finding."""
    if not data:
        return
    number, content = data[0] % (len(PLACES) + 1), data[1:]
    if number:
        which, name = PLACES[number - 1]
        content = rewritten(FILES[which], {name.encode(): content})
    examine(content, rescue=bool(data[0] & 128))


if __name__ == "__main__":
    arguments = sys.argv
    with tempfile.TemporaryDirectory() as temporary:
        seeds(Path(temporary))
        limits = ["-max_len=70000", "-timeout=20", "-rss_limit_mb=2048"]
        # The folder named first is where inputs that reach new code are kept.
        atheris.Setup([arguments[0], *limits, *arguments[1:], temporary], test_one_input)
        atheris.Fuzz()
