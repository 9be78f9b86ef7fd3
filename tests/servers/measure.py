"""What a protocol costs: requests and round trips, measured at the wire, and the client's processor.

``python -m tests.servers.measure`` starts all servers and writes the table of
``docs/protocols.md``; ``tests/contract/test_protocols.py`` compares its requests with that table.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xarray_nd2.testing import write_nd2

from . import Missing, Store, azurite, gcs, nginx, openssh, samba, swift, tls, webdav
from .wire import Wire, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLE_PATH = Path(__file__).parents[2] / "docs" / "protocols.md"
CROP_ROWS = 64
_CROP_INDEXERS: dict[str, Any] = {"T": 3, "Y": slice(60, 60 + CROP_ROWS), "X": slice(40, 90)}
_WIRE_DELAY_SECONDS = 0.5  # in each direction: much, next to the work of the client
_EVERY_ROW: dict[str, Any] = {"X": slice(40, 90)}
_CPU_REPETITIONS = 7
_TIMING_REPETITIONS = 2  # the shortest counts, for a busy machine only ever adds to it


@dataclass(frozen=True)
class Cost:
    """Requests or round trips; None where they cannot be counted.

    Attributes
    ----------
    first : float or None
        Of connecting and opening the first file.
    another : float or None
        Of opening another file of the store.
    crop : float or None
        Of reading `CROP_ROWS` rows of a frame, each apart, of that file.
    """

    first: float | None
    another: float | None
    crop: float | None


def measured_file() -> bytes:
    """A file of about 1 MB."""
    shape = (5, 2, 200, 260)
    file = io.BytesIO()
    write_nd2(file, np.random.default_rng(0).integers(0, 2**16, shape, np.uint16), "TCYX")
    return file.getvalue()


def requests(store: Store) -> Cost:
    """Count requests."""
    counts: list[float | None] = []
    with wire(store.port) as line:
        for act in _measured_acts(store, line):
            line.settle()
            line.clear()
            act()
            line.settle()
            counts.append(line.requests or None)
    return Cost(*counts)


def round_trips(store: Store) -> Cost:
    """Time the same over a short wire and over a long one: the difference is round trips."""
    shortest = []
    for delay in (0.0, _WIRE_DELAY_SECONDS):
        seconds = []
        for _ in range(_TIMING_REPETITIONS):
            with wire(store.port) as line:
                line.delay = delay
                seconds.append([_seconds_of(act) for act in _measured_acts(store, line)])
        shortest.append(np.min(seconds, axis=0))
    return Cost(
        *(float(trips) for trips in np.diff(shortest, axis=0)[0] / (2 * _WIRE_DELAY_SECONDS))
    )


def cpu_milliseconds(store: Store) -> float:
    """Time of the processor that one request takes in this process, with its share of a read."""
    store.put("one.nd2", measured_file())
    options: dict[str, Any] = {"storage_options": store.options, "max_gap": 0, "cache": False}
    image = xr.open_dataset(store.url("one.nd2"), engine="nd2", **options).image
    rows = image.isel(_EVERY_ROW)
    seconds = []
    for _ in range(_CPU_REPETITIONS):
        began = time.process_time()
        rows.values  # noqa: B018  (it reads)
        seconds.append(time.process_time() - began)
    count: int = image.sizes["T"] * image.sizes["Y"]
    return min(seconds) / count * 1e3


def _seconds_of(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _measured_acts(store: Store, line: Wire) -> Iterator[Callable[[], object]]:
    """Things to do with two files of a store, over a wire that nothing was sent over yet."""
    assert store.at is not None
    there = store.at(line.port)
    data = measured_file()
    for name in ("one.nd2", "two.nd2"):
        store.put(name, data)
    opened: list[xr.Dataset] = []

    def open_file(name: str) -> None:
        opened.append(
            xr.open_dataset(there.url(name), engine="nd2", storage_options=there.options, max_gap=0)
        )

    yield lambda: open_file("one.nd2")
    yield lambda: open_file("two.nd2")
    opened[0].image.isel(_CROP_INDEXERS).load()  # makes as many connections as are used at once
    opened[1].image.isel(T=0).load()  # and looks once at the file, where that takes a request
    yield lambda: opened[1].image.isel(_CROP_INDEXERS).load()


SERVERS_BY_PROTOCOL: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {
    "S3 (Swift)": swift.serve,
    "Azure (Azurite)": azurite.serve,
    "Google Cloud Storage (emulator)": gcs.serve,
    "WebDAV (rclone)": webdav.serve,
    "Windows share (Samba)": samba.serve,
    "SFTP (OpenSSH)": openssh.serve,
}


@contextmanager
def _serve_http(folder: Path) -> Iterator[Store]:
    folder.mkdir()
    with nginx.serve(folder / "nginx", tls.make_certificates(folder)) as servers:
        yield servers.http


def table_row(name: str, counted: Cost, trips: Cost, cpu: float) -> str:
    """A line of the table; the processor's time in milliseconds."""
    cells = [
        f"{max(1, getattr(trips, part)):.0f} | {getattr(counted, part) or '?'}"
        for part in ("first", "another", "crop")
    ]
    return f"| {name} | {' | '.join(cells)} | {cpu:.2f} ms |"


def table() -> dict[str, tuple[str, ...]]:
    """The table as it is documented: cells by name of the protocol."""
    lines = re.findall(r"^\| (.*) \|$", TABLE_PATH.read_text("utf-8"), re.M)
    cells = [tuple(line.split(" | ")) for line in lines]
    return {first: rest for first, *rest in cells if len(rest) == 7}  # type: ignore[misc]


def main() -> None:
    """Measure every protocol whose server is installed, and write the table."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, serve) in enumerate(
            {"HTTP (nginx)": _serve_http, **SERVERS_BY_PROTOCOL}.items()
        ):
            try:
                with serve(Path(folder) / str(number)) as store:
                    costs = requests(store), round_trips(store), cpu_milliseconds(store)
                    lines.append(table_row(name, *costs))
            except Missing as reason:
                sys.exit(str(reason))
            print(lines[-1])
    text = TABLE_PATH.read_text("utf-8")
    rule = "|---" * 8 + "|\n"
    before, _, rest = text.partition(rule)
    after = rest[rest.index("\n\n") :]
    TABLE_PATH.write_text(before + rule + "\n".join(lines) + after, "utf-8")


if __name__ == "__main__":
    main()
