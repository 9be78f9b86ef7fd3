"""Tracing the workers of a cluster, those that join it later included."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

from xarray_nd2.io.process import this_process

if TYPE_CHECKING:
    from distributed import Client, Worker

    from xarray_nd2.io.recorder import Recorded

_EVENTS_OF_WORKERS = "all"  # the scheduler's own log, in which workers come and go


class RecordingPlugin(WorkerPlugin):
    """Records for a trace in the process of each worker, from when it joins.

    Parameters
    ----------
    trace_name : str
        Of the trace.
    """

    def __init__(self, trace_name: str) -> None:
        self._trace_name = trace_name

    def setup(self, worker: Worker) -> None:  # noqa: ARG002
        """Begin, when the worker has the plugin."""
        this_process().start_recording(self._trace_name)

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """End, when the trace or the worker does."""
        this_process().stop_recording(self._trace_name)


class TracedWorkers:
    """The workers of a client while they are traced.

    Parameters
    ----------
    client : distributed.Client
        Not one for coroutines.
    trace_name : str
        Of the trace.

    Attributes
    ----------
    recorded : dict of str to Recorded
        What was recorded by the end, by the address of a worker; once for each process, and not for
        the client's own.
    lost : list of str
        Addresses of workers that were there at any time, and told nothing in the end.
    """

    def __init__(self, client: Client, trace_name: str) -> None:
        if client.asynchronous:
            raise TypeError("a client that is asynchronous cannot be traced")
        self._client, self._trace_name = client, trace_name
        self._plugin_name = f"xarray-nd2-{trace_name}"
        self.recorded: dict[str, Recorded] = {}
        self.lost: list[str] = []

    def begin(self) -> None:
        """Let the workers record, and those that join later."""
        self._events_before = {time for time, _ in self._events()}
        try:
            self._client.register_plugin(RecordingPlugin(self._trace_name), self._plugin_name)
        except BaseException:
            self._unregister()
            raise
        self._workers = list(self._client.scheduler_info(n_workers=-1)["workers"])

    def end(self) -> None:
        """Gather what they recorded, and let them record no more.

        A cluster that is gone by now has told nothing, which is no error.
        """
        told: dict[str, Any] = {}
        with suppress(Exception):
            self._workers += self._joined()
            told = self._client.run(_recorded_here, self._trace_name, on_error="return")
        self._unregister()
        tokens = {this_process().token}
        for worker, answer in told.items():
            if isinstance(answer, tuple):
                token, recorded = answer
                if token not in tokens:
                    self.recorded[worker] = recorded
                tokens.add(token)
        self.lost = [
            worker
            for worker in dict.fromkeys((*self._workers, *told))
            if not isinstance(told.get(worker), tuple)
        ]

    def _joined(self) -> list[str]:
        """Addresses of the workers that joined since the beginning, also of those that left again."""
        return [
            event["worker"]
            for time, event in self._events()
            if time not in self._events_before and event.get("action") == "add-worker"
        ]

    def _events(self) -> list[tuple[float, dict[str, Any]]]:
        return list(self._client.get_events(_EVENTS_OF_WORKERS))

    def _unregister(self) -> None:
        with suppress(Exception):
            self._client.unregister_worker_plugin(self._plugin_name)


def _recorded_here(trace_name: str) -> tuple[str, Recorded] | None:
    """The token of this process, and what it recorded; None if it did not."""
    process = this_process()
    recorder = process.recorders.get(trace_name)
    if recorder is None:
        return None
    recorded = recorder.recorded()
    return process.token, replace(recorded, rows=list(recorded.rows))
