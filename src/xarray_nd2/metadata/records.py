"""Decoding a chunk of records, in either of the encodings, by the nd2 library's public interface."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.errors import ND2FormatError
from xarray_nd2.format.skeleton import build_skeleton
from xarray_nd2.metadata.limits import check_metadata, without_lone_surrogates
from xarray_nd2.metadata.tree import Branch

if TYPE_CHECKING:
    from xarray_nd2.metadata.tree import Oddities

# nd2 decodes chunks of any name but those of custom data, so these are given another name.
_NEUTRAL_NAME: Final = "Records"


def decoded_records(
    signature: bytes, name: bytes, data: bytes, root: str, oddities: Oddities
) -> Branch:
    r"""Decode a chunk of records on its own.

    Parameters
    ----------
    signature : bytes
        The first `SIGNATURE_BYTES` bytes of the file.
    name : bytes
        Of the chunk, for errors and notes.
    data : bytes
        Its data: XML, or records of type, length of the name, name and value.
    root : str
        Name of the record that is all of it; where there is no such record, the chunk itself is.
    oddities : Oddities
        Where to note what is not as it should be.

    Returns
    -------
    Branch
        The values below the root, called `root` in notes; empty where the chunk has none.

    Raises
    ------
    ND2FormatError
        It cannot be decoded, or would take unbounded time or memory.

    Examples
    --------
    >>> from xarray_nd2.metadata.tree import Oddities
    >>> xml = b'<variant version="1.0"><a runtype="lx_int32" value="5"/></variant>'
    >>> signature = b"\xda\xce\xbe\n \0\0\0@\0\0\0\0\0\0\0ND2 FILE SIGNATURE CHUNK NAME01!Ver3.0"
    >>> decoded_records(signature.ljust(112, b"\0"), b"Any!", xml, "Any", Oddities()).values
    {'a': 5}
    """
    shown = name.decode("ascii", "replace")
    if not check_metadata(name, data):
        oddities.note(f"the chunk {shown} is damaged")
    values = _decoded(signature, shown, data)
    if not isinstance(values, dict) and not data.startswith(b"<"):
        cleaned = without_lone_surrogates(data)
        if cleaned != data:
            oddities.note(f"the chunk {shown} has a text with half a character")
            values = _decoded(signature, shown, cleaned)
    content = values.get(root, values) if isinstance(values, dict) else None
    if not isinstance(content, dict):
        raise ND2FormatError(f"the chunk {shown!r} cannot be decoded")
    return Branch(content, root, oddities)


def _decoded(signature: bytes, shown: str, data: bytes) -> Any:
    """What nd2 makes of a chunk; no dictionary where it cannot decode it."""
    import nd2

    skeleton = build_skeleton(signature, {f"{_NEUTRAL_NAME}!".encode(): data})
    try:
        with nd2.ND2File(io.BytesIO(skeleton)) as file:
            decoded = file.unstructured_metadata(strip_prefix=False, include={_NEUTRAL_NAME})
    except Exception as error:
        raise ND2FormatError(f"nd2 cannot decode the chunk {shown!r}: {error}") from error
    return decoded.get(_NEUTRAL_NAME)
