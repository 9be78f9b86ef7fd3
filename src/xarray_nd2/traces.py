"""What was asked of stores while a block of code ran: counts, a table, a figure."""

from __future__ import annotations

import html
import time
import uuid
from dataclasses import fields
from typing import TYPE_CHECKING, Self

import numpy as np

from xarray_nd2.io.process import this_process
from xarray_nd2.io.recorder import OUTCOME_OK, OUTCOME_REDIRECT, Recorded

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client
    from matplotlib.axes import Axes

    from xarray_nd2.traced_workers import TracedWorkers

_THIS_PROCESS = "this process"
_MEGABYTE_BYTES = 1e6


def trace(client: Client | None = None) -> Trace:
    """Count the requests that are made while a block of code runs.

    Parameters
    ----------
    client : distributed.Client, optional
        Of a cluster whose workers are to be counted as well, those that join it meanwhile included.

    Returns
    -------
    Trace
        A context. What it counts of this process can be read at any time, and what it counts of
        workers once the block has ended.

    Raises
    ------
    TypeError
        The client is asynchronous.

    Examples
    --------
    >>> with trace() as t:
    ...     pass  # open, load, compute
    >>> t.requests, t.bytes, t.retries
    (0, 0, 0)
    """
    return Trace(client)


class Trace:
    """What is read in this process, and by the workers of a client, while its context is entered.

    It counts everything that this package reads, in all threads, whoever asked for it. Several may be
    on at once. A request counts when it has ended.

    Attributes
    ----------
    lost : list of str
        Addresses of the workers that left before the end, with what they would have told.
    """

    def __init__(self, client: Client | None = None) -> None:
        self._name = f"trace-{uuid.uuid4().hex}"
        self._client = client
        self._workers: TracedWorkers | None = None
        self._recorded: dict[str, Recorded] = {}
        self._began_at = self._began = 0.0
        self._seconds: float | None = None  # once it has ended
        self.lost: list[str] = []

    def __enter__(self) -> Self:
        if self._began_at:
            raise RuntimeError("a trace is of one block of code: make another")
        if self._client is not None:
            from xarray_nd2.traced_workers import TracedWorkers

            self._workers = TracedWorkers(self._client, self._name)
        self._client = None
        self._began_at, self._began = time.time(), time.monotonic()
        this_process().start_recording(self._name)
        try:
            if self._workers is not None:
                self._workers.begin()
        except BaseException:
            this_process().stop_recording(self._name)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if self._workers is not None:
                self._workers.end()
        finally:
            # Before anything else is read here, and after the workers, which may be threads here.
            self._recorded = self._parts()
            self._seconds = time.monotonic() - self._began
            this_process().stop_recording(self._name)
            if self._workers is not None:
                self._recorded |= self._workers.recorded
                self.lost = self._workers.lost
            self._workers = None

    @property
    def requests(self) -> int:
        """Requests that were sent: those of opening, each attempt, each redirect."""
        return self._summed().requests

    @property
    def failed_requests(self) -> int:
        """Requests that brought nothing, or not all that was asked for."""
        return self._summed().failed_requests

    @property
    def bytes(self) -> int:
        """Bytes that came: bodies of answers, of no use ones included, and `local_bytes`."""
        summed = self._summed()
        return summed.received_bytes + summed.local_bytes

    @property
    def local_bytes(self) -> int:
        """Bytes of files on disks of this machine and of open files, which take no requests."""
        return self._summed().local_bytes

    @property
    def retries(self) -> int:
        """Attempts after the first."""
        return self._summed().retries

    @property
    def wait_seconds(self) -> float:
        """Waited before attempts after the first; ranges that wait at the same time count each."""
        return self._summed().wait_seconds

    @property
    def request_seconds(self) -> float:
        """Spent in requests; those that are in flight at the same time count each."""
        return self._summed().request_seconds

    @property
    def seconds(self) -> float:
        """From the beginning of the block to its end, or to now."""
        if self._seconds is not None:
            return self._seconds
        return time.monotonic() - self._began if self._began_at else 0.0

    def to_dataframe(self) -> pd.DataFrame:
        """A table of the requests, by when they started.

        Returns
        -------
        pandas.DataFrame
            One row for each request, of which at most a million are kept for each process:

            - ``started``: seconds since the trace began, by the clock of its machine;
            - ``seconds``: until the last of its answer;
            - ``name``: URL or path of the file, without secrets;
            - ``start``, ``stop``: the bytes that were asked for, as in a slice: the last hundred are
              -100 and nothing; nothing at all where it was asked what the file is;
            - ``bytes``: of the body that came;
            - ``attempt``: 1, and more for each time that it was tried again;
            - ``outcome``: ``ok``, ``redirect``, or the failure in words, without secrets;
            - ``worker``: address of the worker, or ``this process``.
        """
        import pandas as pd

        rows = [
            (row.started_at - self._began_at, *row[1:], worker)
            for worker, recorded in self._parts().items()
            for row in list(recorded.rows)
        ]
        types = {
            "started": "float64",
            "seconds": "float64",
            "name": "object",
            "start": "Int64",
            "stop": "Int64",
            "bytes": "int64",
            "attempt": "int64",
            "outcome": "object",
            "worker": "object",
        }
        table = pd.DataFrame(rows, columns=list(types)).astype(types)
        return table.sort_values("started", kind="stable", ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot how many requests were in flight, and mark those that failed.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to plot; otherwise in a figure of its own.
        """
        if ax is None:
            from matplotlib import pyplot as plt

            ax = plt.subplots()[1]
        table = self.to_dataframe()
        starts = table["started"].to_numpy()
        stops = starts + table["seconds"].to_numpy()
        times = np.concatenate([[0.0], starts, stops])
        changes = np.concatenate([[0], np.ones(len(table), int), -np.ones(len(table), int)])
        order = np.lexsort((changes, times))  # at the same time one ends before another starts
        ax.step(times[order], changes[order].cumsum(), where="post")
        failed = ~table["outcome"].isin([OUTCOME_OK, OUTCOME_REDIRECT]).to_numpy()
        if failed.any():
            ax.plot(stops[failed], np.zeros(failed.sum()), "rx", label="failed", clip_on=False)
            ax.legend()
        ax.set(xlabel="time [s]", ylabel="requests in flight", title=self._in_words())
        return ax

    def __repr__(self) -> str:
        lines = [f"<Trace: {self._in_words()}>"]
        lines += [f"  {name}: {_words(part)}" for name, part in self._by_worker()]
        lines += [f"  lost: {worker}" for worker in self.lost]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        total = [("all", self._summed()), *self._by_worker()]
        heads = ("", "requests", "failed", "retries", "waited", "MB", "of them local")
        rows = [
            (
                name,
                str(part.requests),
                str(part.failed_requests),
                str(part.retries),
                f"{part.wait_seconds:.3g} s",
                f"{(part.received_bytes + part.local_bytes) / _MEGABYTE_BYTES:.3f}",
                f"{part.local_bytes / _MEGABYTE_BYTES:.3f}",
            )
            for name, part in total
        ]
        head = "".join(f"<th>{text}</th>" for text in heads)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        lost = f"<p>Lost: {html.escape(', '.join(self.lost))}</p>" if self.lost else ""
        title = f"<p>xarray_nd2.trace, {self.seconds:.3g} s</p>"
        return (
            f"<div>{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{lost}"
            "</div>"
        )

    def _parts(self) -> dict[str, Recorded]:
        """What was recorded by each process up to now."""
        recorder = this_process().recorders.get(self._name)
        return self._recorded if recorder is None else {_THIS_PROCESS: recorder.recorded()}

    def _summed(self) -> Recorded:
        """Counts of all processes, without the rows."""
        parts = self._parts().values()
        counts = [field.name for field in fields(Recorded) if field.name != "rows"]
        return Recorded(**{name: sum(getattr(part, name) for part in parts) for name in counts})

    def _by_worker(self) -> list[tuple[str, Recorded]]:
        """What each recorded, where there is more than one."""
        parts = list(self._parts().items())
        return parts if len(parts) > 1 or self.lost else []

    def _in_words(self) -> str:
        return f"{_words(self._summed())} in {self.seconds:.3g} s"


def _words(part: Recorded) -> str:
    """Counts of one process or of all."""
    count = part.received_bytes + part.local_bytes
    requests = "1 request" if part.requests == 1 else f"{part.requests} requests"
    words = [requests, f"{count / _MEGABYTE_BYTES:.3f} MB"]
    if part.local_bytes:
        words.append(f"{part.local_bytes / _MEGABYTE_BYTES:.3f} MB of them local")
    if part.failed_requests:
        words.append(f"{part.failed_requests} failed")
    if part.retries:
        retries = "1 retry" if part.retries == 1 else f"{part.retries} retries"
        words.append(f"{retries} after {part.wait_seconds:.3g} s of waiting")
    return ", ".join(words)
