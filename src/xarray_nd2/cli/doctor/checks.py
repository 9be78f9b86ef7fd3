"""The checks of a file, whatever store it is in: each finding is one check."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from xarray_nd2.cli.console import in_bytes, in_seconds
from xarray_nd2.cli.doctor.findings import OUTCOME_FAILED, OUTCOME_OK, OUTCOME_WARNING, Finding
from xarray_nd2.cli.doctor.http_checks import examine_http
from xarray_nd2.errors import (
    ND2Error,
    ND2FormatError,
    ND2NotFoundError,
    ND2PermissionError,
    ND2UnsupportedError,
)
from xarray_nd2.io.choose import connect
from xarray_nd2.io.http import HTTPTransport
from xarray_nd2.open.opening import open_nd2

if TYPE_CHECKING:
    from xarray_nd2.io.source import ByteSource

_SLOW_LATENCY_SECONDS: Final = 0.2
_SLOW_BYTES_PER_SECOND: Final = 2e6
_LATENCY_PROBES: Final = 3
_LATENCY_PROBE_BYTES: Final = 1024
_MAX_BANDWIDTH_BYTES: Final = 8 * 1024 * 1024
_FIRST_BANDWIDTH_BYTES: Final = 256 * 1024
_MIN_TELLING_SECONDS: Final = 0.2


def examine(source: ByteSource) -> list[Finding]:
    """Check what matters for reading a file from here.

    Parameters
    ----------
    source : ByteSource
        Where it is, with the patience for each check.

    Returns
    -------
    list of Finding
        Up to the first that failed.
    """
    findings: list[Finding] = []
    try:
        is_http = isinstance(connect(source.target, source.storage_options), HTTPTransport)
    except Exception as error:  # noqa: BLE001
        text = source.hide(str(error)) or type(error).__name__
        return [Finding("store", OUTCOME_FAILED, text, "check the URL and the storage options")]
    if is_http:
        findings += examine_http(source)
        if any(each.outcome == OUTCOME_FAILED for each in findings):
            return findings
    try:
        opened = open_nd2(source)
    except ND2Error as error:
        return [*findings, _failed(error)]
    if not is_http:
        findings.append(Finding("access", OUTCOME_OK, "the file is there and can be read"))
        findings.append(_version(opened.source))
    sizes = ", ".join(f"{dim} {size}" for dim, size in opened.layout.sizes.items())
    findings.append(Finding("ND2", OUTCOME_OK, f"an ND2 file: {sizes}"))
    try:
        return [*findings, _latency(opened.source), _bandwidth(opened.source)]
    except ND2Error as error:
        return [*findings, _failed(error)]


def _failed(error: ND2Error) -> Finding:
    """What an error of opening or reading means."""
    if isinstance(error, ND2NotFoundError):
        return Finding(
            "access", OUTCOME_FAILED, error.message, "check the path, and the case of its letters"
        )
    if isinstance(error, ND2PermissionError):
        return Finding(
            "access",
            OUTCOME_FAILED,
            error.message,
            "give credentials: -o anon=true for public buckets, -o profile=NAME or -o key=… -o "
            "secret=…; the right needed is to read the object (s3:GetObject)",
        )
    if isinstance(error, ND2UnsupportedError):
        return Finding("ND2", OUTCOME_FAILED, error.message, "convert the file in NIS-Elements")
    if isinstance(error, ND2FormatError):
        return Finding(
            "ND2",
            OUTCOME_FAILED,
            error.message,
            "check that the URL is of the file and not of a web page, and that the upload was complete",
        )
    return Finding(
        "reading",
        OUTCOME_FAILED,
        error.message,
        "check the network and the endpoint (-o endpoint_url=…), and try again",
    )


def _version(source: ByteSource) -> Finding:
    facts = source.facts
    if facts is not None and facts.version:
        return Finding("version", OUTCOME_OK, f"the store tells {facts.version}")
    advice = "a file that is replaced while it is read shows by its size only: do not overwrite it"
    return Finding("version", OUTCOME_WARNING, "neither tag nor date of change", advice)


def _latency(source: ByteSource) -> Finding:
    """How long a small request takes: the shortest of a few, over connections that are made."""
    stop = min(_LATENCY_PROBE_BYTES, source.size)
    seconds = min(_seconds_to_read(source, stop) for _ in range(_LATENCY_PROBES))
    found = f"a small request takes {in_seconds(seconds)}"
    if seconds > _SLOW_LATENCY_SECONDS:
        advice = (
            "read from a machine nearer to the file; select more at once, for requests run together"
        )
        return Finding("latency", OUTCOME_WARNING, found, advice)
    return Finding("latency", OUTCOME_OK, found)


def _bandwidth(source: ByteSource) -> Finding:
    """How fast bytes come, by ever more of them until that tells."""
    size = _FIRST_BANDWIDTH_BYTES
    while True:
        size = min(size, source.size, _MAX_BANDWIDTH_BYTES)
        seconds = _seconds_to_read(source, size)
        if seconds > _MIN_TELLING_SECONDS or size in (source.size, _MAX_BANDWIDTH_BYTES):
            break
        size *= 4
    rate = size / max(seconds, 1e-9)
    found = f"{in_bytes(rate)}/s, by {in_bytes(size)}"
    if rate < _SLOW_BYTES_PER_SECOND and seconds > 2 * _SLOW_LATENCY_SECONDS:
        advice = "read from a machine nearer to the file, or copy the file first: simplecache::URL"
        return Finding("bandwidth", OUTCOME_WARNING, found, advice)
    return Finding("bandwidth", OUTCOME_OK, found)


def _seconds_to_read(source: ByteSource, stop: int) -> float:
    began = time.monotonic()
    source.read([(0, stop)], lambda *_: None)
    return time.monotonic() - began
