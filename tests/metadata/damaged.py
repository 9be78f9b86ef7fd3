"""Every way to damage the descriptive metadata of a file: variants of it, one damage in each.

Run as a program it examines all variants of files, or every N-th, and tells what went wrong:
``python -m tests.metadata.damaged [--every N] FILES...``
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import re
import struct
import sys
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from tests.damage import chunk_entries, chunk_parts
from tests.metadata.chunk_trees import BYTES, COMPRESSED, LEVEL, LEVEL_HEAD, decoded, stored_name
from xarray_nd2.format.container import CHUNK_HEADER
from xarray_nd2.testing.chunks import ChunkWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from tests.metadata.chunk_trees import ChunkTree, Path

NOTHING, PICTURE, EXPERIMENT, TEXTS = "nothing", "picture", "experiment", "texts"
TIMES, PLACES = "times", "places"
PARTS = (NOTHING, PICTURE, EXPERIMENT, TEXTS, TIMES, PLACES)

CHUNKS_OF_PART = {
    PICTURE: (b"ImageMetadataSeqLV|0!", b"ImageMetadataSeq|0!"),
    EXPERIMENT: (b"ImageMetadataLV!", b"ImageMetadata!"),
    TEXTS: (b"ImageTextInfoLV!", b"ImageTextInfo!"),
    PLACES: (b"CustomDataVar|CustomDataV2_0!",),  # what the recorded tables are
}
TABLES_OF_PART = {
    TIMES: (b"CustomData|AcqTimesCache!",),
    PLACES: (b"CustomData|X!", b"CustomData|Y!", b"CustomData|Z!"),
}
# Huge numbers under these keys of the experiment are frames that nobody could have taken.
LOOP_COUNTS = ("uiCount", "uiPeriodCount")
HUGE_NUMBERS = ("huge", "infinity", "enormous")
# More than the reader takes of one chunk (bytes, records or elements, and bytes inflated).
TOO_MANY_BYTES, TOO_MANY_RECORDS, TOO_MANY_INFLATED_BYTES = 2**26, 1_000_000, 2**28
DEEP = 5_000  # levels within levels


@dataclass(frozen=True)
class Variant:
    """One damage to one part of a file."""

    part: str
    where: str
    """The chunk, and the names from its root to the key that is damaged."""
    damage: str
    changes: Mapping[bytes, bytes | None]
    """Data of chunks by name; None for one that is taken out of the file."""
    may_refuse: bool = False
    """Whether it may be refused, as too many frames that are not there."""
    must_warn: bool = False
    """Whether nobody could take the part for a sound one."""

    def __str__(self) -> str:
        return f"{self.part}: {self.where}: {self.damage}"

    def applied(self, data: bytes) -> bytes:
        return with_chunks(data, self.changes)


def chunks_of(data: bytes) -> dict[bytes, bytes]:
    """The data of every chunk of a file."""
    parts = {name: chunk_parts(data, at)[1:] for name, at in chunk_entries(data).items()}
    return {name: data[start:stop] for name, (start, stop) in parts.items()}


def with_chunks(data: bytes, changes: Mapping[bytes, bytes | None]) -> bytes:
    """The file with other data in some chunks, without some, or with more of them."""
    sink = io.BytesIO()
    writer = ChunkWriter(sink, (int(data[51:52]), int(data[53:54])))
    entries = chunk_entries(data)
    for name, place in entries.items():
        offset, start, stop = chunk_parts(data, place)
        area = start - offset - CHUNK_HEADER.size if name.startswith(b"ImageDataSeq") else None
        content = changes.get(name, data[start:stop])
        if content is not None:
            writer.append(name.decode("ascii"), content, name_area=area)
    for name, content in changes.items():
        if name not in entries and content is not None:
            writer.append(name.decode("ascii"), content)
    writer.finish(by_name=True)
    return sink.getvalue()


def variants(
    data: bytes, *, each_name_once: bool = False, every: int = 1, bombs: bool = True
) -> Iterator[Variant]:
    """Variants of a file, the file as it is first.

    Parameters
    ----------
    data : bytes
        The file.
    each_name_once : bool
        Damage only the first of several keys of one name below the root's own keys.
    every : int
        Take every so many of the variants that damage a key.
    bombs : bool
        Also put chunks there that no reader should take.
    """
    yield Variant(NOTHING, "", "as it is", {})
    chunks = chunks_of(data)
    for part, names in CHUNKS_OF_PART.items():
        for name in chunks.keys() & set(names):
            tree = decoded(chunks[name])
            damages = damages_of_keys(tree, each_name_once=each_name_once)
            for path, damage in islice(damages, None, None, every):
                yield _damaged_key(part, name, tree, path, damage)
            yield from damaged_chunks(part, name, chunks, bombs=bombs)
    for part, names in TABLES_OF_PART.items():
        for name in names:
            if name in chunks:
                yield from _damaged_table(part, name, chunks[name])


def damages_of_keys(tree: ChunkTree, *, each_name_once: bool) -> Iterator[tuple[Path, str]]:
    """Where each key of a chunk is, with each of the damages that can be done to it."""
    seen: set[str] = set()
    for path in tree.paths():
        name = tree.keys(path)[-1]
        if each_name_once and len(path) > 2 and name in seen:
            continue
        seen.add(name)
        yield path, "deleted"
        yield from ((path, replacement) for replacement in tree.replacements)


def _damaged_key(part: str, name: bytes, tree: ChunkTree, path: Path, damage: str) -> Variant:
    keys = tree.keys(path)
    deleted = damage == "deleted"
    content = tree.without(path) if deleted else tree.with_value(path, damage)
    too_many = part == EXPERIMENT and keys[-1] in LOOP_COUNTS and damage in HUGE_NUMBERS
    where = f"{name.decode()} {'/'.join(keys)}"
    return Variant(part, where, damage, {name: content}, may_refuse=too_many)


def damaged_chunks(
    part: str, name: bytes, chunks: Mapping[bytes, bytes], *, bombs: bool
) -> Iterator[Variant]:
    """Variants in which the whole data of a chunk are others."""
    chunk = chunks[name]
    attributes = next(chunks[n] for n in chunks if n.startswith(b"ImageAttributes"))
    harmless = {"deleted": None, "empty": b"", "another part's": attributes}
    noticed = {
        "junk": np.random.default_rng(5).bytes(max(len(chunk), 100)),
        "ones": b"\xff" * len(chunk),
        "zeros": bytes(len(chunk)),
        "half": chunk[: len(chunk) // 2],
        "ten bytes": chunk[:10],
        "all but a byte": chunk[:-1],
    }
    # The last of the records' offsets may be short, since nobody needs them.
    unnoticed = {"all but a byte", "zeros"}
    if bombs:
        noticed |= _xml_bombs() if chunk.startswith(b"<") else _lite_bombs(chunk)
    known = part in (PICTURE, EXPERIMENT, TEXTS)
    for damage, content in {**harmless, **noticed}.items():
        sure = known and damage in noticed and damage not in unnoticed
        yield Variant(part, name.decode(), damage, {name: content}, must_warn=sure)


def _lite_bombs(chunk: bytes) -> dict[str, bytes]:
    """Chunks under the root's name that hold too much."""
    root = chunk[2 : 2 + 2 * chunk[1]]

    def level(name: bytes, count: int, inside: bytes) -> bytes:
        head = bytes([LEVEL, len(name) // 2]) + name
        end = len(head) + LEVEL_HEAD.size + len(inside)
        return head + LEVEL_HEAD.pack(count, end) + inside + bytes(8 * count)

    filler = bytes([BYTES, 2]) + stored_name("a") + struct.pack("<Q", TOO_MANY_BYTES)
    records = (bytes([1, 2]) + stored_name("b") + b"\1") * TOO_MANY_RECORDS
    stream = zlib.compress(bytes(TOO_MANY_INFLATED_BYTES), 1)
    inflating = bytes([COMPRESSED]) + b"V0Z" + struct.pack("<Q", len(stream)) + stream
    deep = b""
    for _ in range(DEEP):
        deep = level(stored_name("a"), 1 if deep else 0, deep)
    return {
        "too long": level(root, 1, filler + bytes(TOO_MANY_BYTES)),
        "too many records": level(root, TOO_MANY_RECORDS, records),
        "inflating": inflating,
        "too deep": level(root, 1, deep),
    }


def _xml_bombs() -> dict[str, bytes]:
    """XML that holds too much."""
    start, end = (
        b'<variant version="1.0"><no_name runtype="CLxListVariant">',
        b"</no_name></variant>",
    )
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    declared = f'<!DOCTYPE variant [<!ENTITY e0 "ha">{entities}]>'.encode()
    text = b'<a runtype="CLxStringW" value="&e11;"/>'
    return {
        "too long": start + b" " * TOO_MANY_BYTES + end,
        "too many elements": start + b"<a/>" * TOO_MANY_RECORDS + end,
        "entities": declared + start + text + end,
        "too deep": start + b"<a>" * 200_000 + b"</a>" * 200_000 + end,
    }


def _damaged_table(part: str, name: bytes, chunk: bytes) -> Iterator[Variant]:
    table = np.frombuffer(chunk, "<f8")
    for damage, content in _damaged_numbers(table).items():
        yield Variant(part, name.decode(), damage, {name: content.astype("<f8").tobytes()})
    odd = {"deleted": None, "a byte short": chunk[:-1], "three bytes": chunk[:3]}
    for damage, data in odd.items():
        yield Variant(part, name.decode(), damage, {name: data})


def _damaged_numbers(table: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    every_other = np.arange(len(table)) % 2 == 1
    return {
        "empty": table[:0],
        "one short": table[:-1],
        "one number": table[:1],
        "one more": np.append(table, table[-1:] + 1),
        "twice as long": np.append(table, table + 1),
        "NaN": np.full_like(table, np.nan),
        "NaN at first": np.where(np.arange(len(table)) == 0, np.nan, table),
        "NaN in between": np.where(every_other, np.nan, table),
        "infinity": np.full_like(table, np.inf),
        "infinity in between": np.where(every_other, -np.inf, table),
        "decreasing": -np.arange(float(len(table))),
        "decreasing in between": np.where(every_other, -table, table),
        "zeros": np.zeros_like(table),
        "zeros in between": np.where(every_other, 0, table),
        "all alike": np.full_like(table, 5.0),
        "enormous": table * 1e300 + 1e300,
        "tiny": np.arange(len(table)) * 5e-324,
    }


def _examine_files() -> None:
    """Examine all variants of files; a line of JSON for each file, then what failed how often."""
    from tests.metadata.soundness import Intact, problems_of

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--every", type=int, default=1, help="of the variants that damage a key")
    parser.add_argument("--failures", type=pathlib.Path, help="file to write each failure to")
    options = parser.parse_args()
    kinds: Counter[str] = Counter()
    example: dict[str, str] = {}
    failures: list[str] = []
    for path in options.files:
        data = path.read_bytes()
        intact = Intact.of(data)
        counts: Counter[str] = Counter()
        for variant in variants(data, every=options.every):
            problems = problems_of(variant, intact)
            counts["failed" if problems else "passed"] += 1
            for problem in problems:
                kind = re.sub(r"\b\d[\d.e+-]*", "N", problem.split("\n")[0])[:150]
                kinds[kind] += 1
                example.setdefault(kind, f"{path.name}: {variant}")
                failures.append(f"{path.name}: {variant}: {problem}")
        print(json.dumps({"file": path.name, **counts}), flush=True)
    for kind, count in kinds.most_common():
        print(f"{count:6} {kind}\n       e.g. {example[kind]}")
    if options.failures:
        options.failures.write_text("\n".join(failures), encoding="utf-8")
    sys.exit(bool(kinds))


if __name__ == "__main__":
    _examine_files()
