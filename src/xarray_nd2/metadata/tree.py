"""Looking into metadata that may be damaged: what is asked for is there as it should be, or it is noted.

The metadata of a file is a tree of named values. Any of them may be missing or of another kind, so
whoever needs one asks a `Branch` for a value of a certain kind and gets None where there is none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MAGNITUDE: Final = 1e30
"""Of a number, in whatever unit: one beyond it says nothing, and arithmetic with it overflows."""
_MAX_NOTES: Final = 100
_MAX_SHOWN_NOTES: Final = 5
_MAX_WHOLE: Final = 2**63
_LIST_ITEM: Final = re.compile(r"i\d{10}")  # nd2's names of the items of a list
_VENDOR_PREFIX: Final = re.compile(r"[a-z_]+(?=[A-Z0-9])")


class Oddities:
    """What of the metadata is not as it should be, in words, each thing once."""

    def __init__(self) -> None:
        self._notes: dict[str, None] = {}

    def note(self, what: str) -> None:
        """Note that something is odd."""
        if len(self._notes) < _MAX_NOTES:
            self._notes[what] = None

    def __bool__(self) -> bool:
        return bool(self._notes)

    def __str__(self) -> str:
        notes = list(self._notes)
        more = len(notes) - _MAX_SHOWN_NOTES
        shown = "; ".join(notes[:_MAX_SHOWN_NOTES])
        return f"{shown}; and {more} more" if more > 0 else shown


class Branch:
    """Named values of one part of the metadata.

    Parameters
    ----------
    value : object
        A mapping of names to values; anything else is taken for an empty one.
    path : str
        How the branch is called in notes.
    oddities : Oddities
        Where to note that a value is of another kind than it was asked for, or that one which is
        needed is missing.
    """

    def __init__(self, value: object, path: str, oddities: Oddities) -> None:
        self.values: Mapping[str, Any] = value if isinstance(value, dict) else {}
        self.path = path
        self.oddities = oddities

    def __bool__(self) -> bool:
        return bool(self.values)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def note_odd(self, name: str) -> None:
        """Note that the value of a name is not what it should be."""
        what = "is not what it should be" if name in self.values else "is missing"
        self.oddities.note(f"{self.path}/{name} {what}")

    def number(self, name: str, *, needed: bool = False) -> float | None:
        """A finite number, not beyond all that could be measured."""
        value = self.values.get(name)
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        if number is not None and abs(number) < MAX_MAGNITUDE:  # which NaN is not
            return float(number)
        self._note_lack(name, needed=needed)
        return None

    def positive(self, name: str) -> float | None:
        """A number above 0; files have 0 or less for what is not known."""
        value = self.number(name)
        return value if value and value > 0 else None

    def whole(self, name: str, *, needed: bool = False) -> int | None:
        """A whole number, below 2**63 and not below -2**63."""
        value = self.values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_WHOLE:
            return value
        self._note_lack(name, needed=needed)
        return None

    def flag(self, name: str, *, needed: bool = False) -> bool | None:
        """Whether something is so; files also have 0 and 1 for it."""
        value = self.values.get(name)
        if isinstance(value, (bool, int)) and value in (0, 1):
            return bool(value)
        self._note_lack(name, needed=needed)
        return None

    def text(self, name: str, *, needed: bool = False) -> str | None:
        """A text."""
        value = self.values.get(name)
        if isinstance(value, str):
            return value
        self._note_lack(name, needed=needed)
        return None

    def below(self, name: str, *, needed: bool = False) -> Branch:
        """The branch of a name; an empty one where there is none."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            self._note_lack(name, needed=needed)
        path = self.path if _LIST_ITEM.fullmatch(name) else f"{self.path}/{name}"
        return Branch(value, path, self.oddities)

    def with_values(self, value: object) -> Branch:
        """A branch of other values, called the same in notes."""
        return Branch(value, self.path, self.oddities)

    def unprefixed(self) -> Branch:
        """The branch under names without the vendor's prefixes, which tell types and need not be known.

        Such as ``Label`` for ``m_sLabel``.
        """
        values: dict[str, Any] = {}
        for name, value in self.values.items():
            prefix = None if _LIST_ITEM.fullmatch(name) else _VENDOR_PREFIX.match(name)
            values.setdefault(name[prefix.end() :] if prefix else name, value)
        return self.with_values(values)

    def numbered(self, stem: str) -> list[tuple[int, Branch]]:
        """The branches below that are called by a stem and a number, such as ``Global_0``, by number.

        It is noted if they are not as many as the whole number ``{stem}Size`` says.
        """
        names = re.compile(rf"{re.escape(stem)}(\d{{1,9}})")
        matches = filter(None, map(names.fullmatch, self.values))
        found = sorted((int(match[1]), match[0]) for match in matches)
        numbers = [number for number, _ in found]
        size = self.whole(f"{stem}Size", needed=bool(found))
        if size is not None and size != len(found):
            self.oddities.note(f"{self.path}/{stem}Size is {size}, and there are {len(found)}")
        elif numbers != list(range(len(found))):
            self.oddities.note(f"{self.path}/{stem} is not numbered in a row")
        return [(number, self.below(name)) for number, name in found]

    def branches(self) -> list[Branch]:
        """The branches below, in the order of the file."""
        return [self.below(name) for name in self.values]

    def bytes_of(self, name: str) -> bytes | None:
        """An array of bytes."""
        value = self.values.get(name)
        if isinstance(value, (bytes, bytearray)):
            return bytes(value)
        if isinstance(value, list) and all(isinstance(v, int) and 0 <= v < 256 for v in value):
            return bytes(value)
        self._note_lack(name, needed=False)
        return None

    def flags(self, name: str) -> list[bool] | None:
        """Whether each item of a list is so: an array of bytes, or in XML a flag for each item."""
        value = self.values.get(name)
        if isinstance(value, dict) and all(
            isinstance(flag, (bool, int)) for flag in value.values()
        ):
            return [bool(flag) for _, flag in sorted(value.items())]
        found = self.bytes_of(name)
        return None if found is None else [byte != 0 for byte in found]

    def _note_lack(self, name: str, *, needed: bool) -> None:
        """Note a value that is not of the kind that was asked for, or needed and not there."""
        if needed or self.values.get(name) is not None:
            self.note_odd(name)
