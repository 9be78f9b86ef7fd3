"""Work in a process of its own, in turns with this one."""

from __future__ import annotations

import multiprocessing
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection


@contextmanager
def worker(start: Callable[..., Callable[..., Any]], *args: Any) -> Iterator[Callable[..., Any]]:
    """Run ``start(*args)`` in a new process, and there call what it returns with what is asked.

    Parameters
    ----------
    start : callable
        A function of a module, which returns another.
    *args
        Its arguments.

    Yields
    ------
    callable
        Calls the returned function in the process with its arguments; raises what it raises, as a
        `RuntimeError` with the other's traceback.
    """
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_work, args=(start, args, theirs), daemon=True)
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
        process.join(10)
        if process.is_alive():
            process.terminate()
        pipe.close()


def _received(pipe: Connection) -> Any:
    succeeded, value = pipe.recv()
    if not succeeded:
        raise RuntimeError(value)
    return value


def _work(start: Callable[..., Any], args: tuple[Any, ...], pipe: Connection) -> None:
    with suppress(EOFError, KeyboardInterrupt):
        function = _tell(pipe, start, *args)
        while function is not None and (message := pipe.recv()) is not None:
            _tell(pipe, function, *message)


def _tell(pipe: Connection, function: Callable[..., Any], *args: Any) -> Any:
    """Send what a function returns, or how it failed."""
    try:
        value = function(*args)
    except Exception:  # noqa: BLE001  (it is raised in the other process)
        pipe.send((False, traceback.format_exc()))
        return None
    pipe.send((True, None if callable(value) else value))
    return value
