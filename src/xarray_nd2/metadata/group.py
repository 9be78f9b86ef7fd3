"""What a group of a file holds besides the image: variables, and the labels they are under."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xarray_nd2.metadata.tree import Oddities

if TYPE_CHECKING:
    from xarray_nd2.metadata.label import Coordinate


@dataclass(frozen=True, eq=False)
class Group:
    """The content of a group, as plain values.

    Attributes
    ----------
    variables : dict of str to (dims, values, attrs)
        Its data. Values that are read on demand are described by where they lie in the file, such
        as a `FrameLayout` for frames.
    coordinates : dict of str to (dims, values, attrs)
        Its labels, in memory.
    attrs : dict
        Plain JSON-able attributes.
    oddities : Oddities
        What of it could not be read, or is not as it should be.
    """

    variables: dict[str, Coordinate]
    coordinates: dict[str, Coordinate] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    oddities: Oddities = field(default_factory=Oddities)
