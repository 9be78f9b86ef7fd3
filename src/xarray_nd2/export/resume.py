"""Whether an export goes on from one that was begun, and which of its shards are there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.export.documents import OWN_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_nd2.export.destination import Destination
    from xarray_nd2.export.source import ExportSource
    from xarray_nd2.export.write_shards import Export

ROOT_DOCUMENT: Final = "zarr.json"
_SHOWN_VALUES: Final = 80  # characters


def begun_record(destination: Destination) -> dict[str, Any] | None:
    """What an export that was begun has noted of itself; None where none was.

    Raises
    ------
    OSError
        The destination cannot be read.
    """
    try:
        document = json.loads(destination.read(ROOT_DOCUMENT) or b"{}")
        record = document["attributes"][OWN_ATTRIBUTE]
    except (ValueError, KeyError, TypeError):
        return None
    return record if isinstance(record, dict) else None


def check_same(destination: Destination, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with an export of something else.

    Raises
    ------
    FileExistsError
        What was begun is of another source, or with other settings.
    """
    for part, what in (("source", "another source"), ("settings", "other settings")):
        before, after = begun.get(part), now[part]
        if before == after:
            continue
        before = before if isinstance(before, dict) else {}
        differing = [
            f"{name} was {_shown(before.get(name))} and is {_shown(after.get(name))}"
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ]
        raise FileExistsError(
            f"{destination.name}: holds an export of {what}: {'; '.join(differing)}. "
            "Choose another destination, or overwrite=True"
        )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_VALUES else f"{text[:_SHOWN_VALUES]}…"


def check_may_be_removed(destination: Destination, source: ExportSource) -> None:
    """Refuse to overwrite what is no Zarr: a folder that was named by mistake; or holds the source.

    Raises
    ------
    FileExistsError
        There is something else at the destination.
    """
    roots = (ROOT_DOCUMENT, ".zgroup", ".zarray")
    if all(destination.read(name) is None for name in roots):
        raise FileExistsError(
            f"{destination.name}: what is there is no Zarr, and is not overwritten; remove it first"
        )
    if source.is_in(destination):
        raise FileExistsError(f"{destination.name}: holds the source, and is not overwritten")


class ExistingShards(Mapping[tuple[int, int], set[str]]):
    """Keys of the shards that are there, by stack and image; listed when they are asked for.

    The list of one image is kept, so that the memory does not grow with their number.
    """

    def __init__(self, export: Export) -> None:
        self._export = export
        self._kept: tuple[tuple[int, int], set[str]] | None = None

    def __getitem__(self, key: tuple[int, int]) -> set[str]:
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._list(*key)
        return self._kept[1]

    def _list(self, stack_number: int, image: int) -> set[str]:
        stack = self._export.stacks[stack_number]
        found: set[str] = set()
        for level in range(len(stack.pyramid.levels)):
            folder = "/".join(filter(None, [stack.paths[image], str(level), "c"]))
            names = self._export.destination.existing(folder)
            found |= {f"{level}/c/{name}" for name in names}
        return found

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for number, stack in enumerate(self._export.stacks):
            for image in range(len(stack.paths)):
                yield number, image

    def __len__(self) -> int:
        return sum(len(stack.paths) for stack in self._export.stacks)
