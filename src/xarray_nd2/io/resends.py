"""Seeing requests that aiohttp sends anew by itself.

Where a connection that was used before turns out to be closed, aiohttp sends the request again over
another, and tells nobody but those who trace its session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xarray_nd2.io.process import this_process
from xarray_nd2.io.watch import NOT_WATCHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp
    from yarl import URL

    from xarray_nd2.io.watch import NoWatch

OUTCOME_SENT_AGAIN: Final = "the connection was closed, so it was sent again"

_CONTEXT_OPTION: Final = "trace_request_ctx"


class _Sending:
    """A request that is being sent."""

    def __init__(self, watch: NoWatch) -> None:
        self._watch = watch
        self._sent = False

    def sent(self) -> None:
        if self._sent:
            self._watch.end(OUTCOME_SENT_AGAIN)
            self._watch.begin()
        self._sent = True


class _SessionTrace:
    """What is in a session for as long as requests of it are watched."""

    def __init__(self) -> None:
        import aiohttp

        self.users = 0
        self.config = aiohttp.TraceConfig()
        self.config.on_request_headers_sent.append(_note_sent)
        self.config.freeze()


async def _note_sent(_: object, context: Any, __: object) -> None:
    sending = context.trace_request_ctx
    if isinstance(sending, _Sending):
        sending.sent()


async def get_watched(
    session: aiohttp.ClientSession,
    url: URL,
    headers: Mapping[str, str],
    options: Mapping[str, Any],
    watch: NoWatch,
) -> aiohttp.ClientResponse:
    """Send a GET request so that `watch` sees all of it.

    The session is as it was before once none of its requests is watched.
    """
    if watch is NOT_WATCHED:
        return await session.get(url, headers=headers, **options)
    configs = getattr(session, "trace_configs", None)
    if configs is None or _CONTEXT_OPTION in options:
        # A session may be the user's own kind of one, and so may be the context.
        return await session.get(url, headers=headers, **options)
    traces = this_process().session_traces
    trace = traces.get(session)
    if trace is None:
        trace = traces[session] = _SessionTrace()
    if not trace.users:
        configs.append(trace.config)
    trace.users += 1
    seen = {**options, _CONTEXT_OPTION: _Sending(watch)}
    try:
        return await session.get(url, headers=headers, **seen)
    finally:
        trace.users -= 1
        if not trace.users:
            configs.remove(trace.config)
