"""The file's signature and footer, and what is refused of them."""

from __future__ import annotations

import pytest

from xarray_nd2.errors import ND2FormatError, ND2UnsupportedError
from xarray_nd2.format import container

SIGNATURE = (
    container.CHUNK_HEADER.pack(container.CHUNK_MAGIC, 32, 64)
    + container.FILE_SIGNATURE
    + b"Ver3.0".ljust(64, b"\0")
)


@pytest.mark.parametrize(("text", "version"), [(b"Ver3.0", (3, 0)), (b"Ver2.1", (2, 1))])
def test_signature(text: bytes, version: tuple[int, int]) -> None:
    assert container.parse_signature(SIGNATURE.replace(b"Ver3.0", text)) == version


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        (b"", ND2FormatError, "the file is empty"),
        (b"<html><body>Sign in</body>", ND2FormatError, "not an ND2 file: it starts with b'<html>"),
        (SIGNATURE[:50], ND2FormatError, "truncated: only 50 bytes"),
        (SIGNATURE.replace(b"NAME01!", b"NAME02!"), ND2FormatError, "corrupt file signature"),
        (SIGNATURE.replace(b"Ver3.0", b"Vex3.0"), ND2FormatError, "unknown version"),
        (SIGNATURE.replace(b"Ver3.0", b"Ver9.0"), ND2UnsupportedError, "version 9.0"),
    ],
)
def test_signature_refused(head: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        container.parse_signature(head)


@pytest.mark.parametrize("location", [0, 111, 961, 2**63])
def test_footer_outside_of_the_file(location: int) -> None:
    with pytest.raises(ND2FormatError, match=f"said to be at byte {location} of 1000"):
        container.parse_footer(container.FILE_FOOTER.pack(container.MAP_SIGNATURE, location), 1000)


@pytest.mark.parametrize("tail", [b"", b"x" * 39, b"x" * 40])
def test_no_footer(tail: bytes) -> None:
    with pytest.raises(ND2FormatError, match="no chunk map signature"):
        container.parse_footer(tail, 1000)
