"""A process that calls functions when this one asks it to."""

from __future__ import annotations

import multiprocessing
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection


_STOP_TIMEOUT_SECONDS = 10.0


@contextmanager
def worker_process(
    start: Callable[..., Callable[..., Any]], *args: Any
) -> Iterator[Callable[..., Any]]:
    """Run ``start(*args)`` in a new process, and let the function that it returns be called there.

    Parameters
    ----------
    start : callable
        A function of a module, since it is pickled; it returns another function.
    *args
        Its arguments.

    Yields
    ------
    callable
        Calls the returned function in the process with its arguments and returns what it returns.

    Raises
    ------
    RuntimeError
        If a function raises in the process; the text is the traceback there.
    """
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_run_worker, args=(start, args, theirs), daemon=True)
    process.start()
    theirs.close()

    def ask(*message: Any) -> Any:
        pipe.send(message)
        return _received(pipe)

    try:
        _received(pipe)
        yield ask
    finally:
        with suppress(BrokenPipeError):
            pipe.send(None)
        process.join(_STOP_TIMEOUT_SECONDS)
        if process.is_alive():
            process.terminate()
        pipe.close()


def _received(pipe: Connection) -> Any:
    succeeded, value = pipe.recv()
    if not succeeded:
        raise RuntimeError(value)
    return value


def _run_worker(start: Callable[..., Any], args: tuple[Any, ...], pipe: Connection) -> None:
    with suppress(EOFError, KeyboardInterrupt):
        function = _send_outcome(pipe, start, *args)
        while function is not None and (message := pipe.recv()) is not None:
            _send_outcome(pipe, function, *message)


def _send_outcome(pipe: Connection, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function and send what it returns, or how it failed; a function is not sent."""
    try:
        value = function(*args)
    except Exception:  # noqa: BLE001  (it is raised in the other process)
        pipe.send((False, traceback.format_exc()))
        return None
    pipe.send((True, None if callable(value) else value))
    return value
