"""What the answers of a web server mean for reading by ranges."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from xarray_nd2.cli.console import in_seconds
from xarray_nd2.cli.doctor.findings import OUTCOME_FAILED, OUTCOME_OK, OUTCOME_WARNING, Finding
from xarray_nd2.cli.doctor.http_answers import HTTPProbe
from xarray_nd2.io.failures import RangeIgnoredError, StatusError, causes
from xarray_nd2.io.range_response import check_status, parse_range_response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_nd2.cli.doctor.http_answers import HTTPAnswer
    from xarray_nd2.io.source import ByteSource

_PROBE_BYTES: Final = 2048
# Two ranges that overlap, so that bytes of a wrong place show.
_PROBED_STARTS: Final = (0, _PROBE_BYTES // 2)
_FOR_RANGES: Final = (
    "serve the file by a server that honours Range requests (nginx, Apache, S3), without a cache or "
    "proxy that drops them; or download it whole: simplecache::URL"
)
_FOR_ACCESS: Final = (
    "give credentials: -o headers.Authorization='Bearer …', a signed link that has not expired, or a "
    ".netrc"
)


def examine_http(source: ByteSource) -> Iterator[Finding]:
    """Look at a web server's answers; nothing further is worth a look after a check that failed."""
    probe = HTTPProbe(source)
    try:
        first = probe.get(f"bytes=0-{_PROBE_BYTES - 1}")
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what was found)
        yield Finding("connection", OUTCOME_FAILED, *_unreachable(error, source))
        return
    yield Finding("connection", OUTCOME_OK, f"the server answers after {in_seconds(first.seconds)}")
    status = _status(first)
    yield status
    if status.outcome == OUTCOME_FAILED:
        return
    encoding = first.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        yield Finding(
            "encoding",
            OUTCOME_FAILED,
            f"the server sends {encoding}, though it was asked not to: encoded bytes have no ranges",
            "switch compression off for .nd2 files (nginx: gzip off), or upload them without "
            "Content-Encoding",
        )
        return
    yield Finding("encoding", OUTCOME_OK, "answers are not encoded")
    ranges = list(_ranges(probe, first))
    yield from ranges
    if all(each.outcome != OUTCOME_FAILED for each in ranges):
        yield _version(probe, first)
        yield _head(probe)


def _status(answer: HTTPAnswer) -> Finding:
    told = f"HTTP {answer.status} {answer.reason}".strip()
    try:
        check_status(answer.status, answer.reason, answer.headers)
    except FileNotFoundError:
        advice = "check the path; some stores say so of what may not be seen"
        return Finding("access", OUTCOME_FAILED, f"there is no such file: {told}", advice)
    except PermissionError:
        return Finding("access", OUTCOME_FAILED, f"access was refused: {told}", _FOR_ACCESS)
    except StatusError:
        advice = "the server fails: try again later, and ask who runs it"
        if answer.status < 500:
            advice = "the server does not take the request: check the URL"
        return Finding("access", OUTCOME_FAILED, f"the server answers {told}", advice)
    return Finding("access", OUTCOME_OK, told)


def _ranges(probe: HTTPProbe, first: HTTPAnswer) -> Iterator[Finding]:
    """Whether ranges are what was asked for: at the start, over it, and at the end."""
    bodies: list[bytes] = []
    for start in _PROBED_STARTS:
        try:
            answer = first if start == 0 else probe.get(f"bytes={start}-{start + _PROBE_BYTES - 1}")
            extent = parse_range_response(answer.status, answer.headers, start, _PROBE_BYTES)
        except RangeIgnoredError as error:
            yield Finding("ranges", OUTCOME_FAILED, str(error), _FOR_RANGES)
            return
        except Exception as error:  # noqa: BLE001
            found = f"a range could not be read: {type(error).__name__}: {error}"
            yield Finding("ranges", OUTCOME_FAILED, found, _FOR_RANGES)
            return
        if answer.broken or len(answer.body) != extent.size:
            yield Finding(
                "ranges",
                OUTCOME_FAILED,
                f"an answer said to be {extent.size:,} bytes has {len(answer.body):,}",
                "something between here and the file cuts answers: a proxy, a cache or the server",
            )
            return
        if extent.size < min(_PROBE_BYTES, extent.facts.size - start):
            yield Finding(
                "ranges",
                OUTCOME_WARNING,
                f"of {_PROBE_BYTES:,} bytes that were asked for {extent.size:,} came",
                "reading goes on after such answers, in more requests: ask who runs the server",
            )
            break
        bodies.append(answer.body)
    else:
        overlap = _PROBED_STARTS[1]
        if bodies[0][overlap:] != bodies[1][: len(bodies[0]) - overlap]:
            found = "two ranges that overlap have other bytes there"
            yield Finding("ranges", OUTCOME_FAILED, found, _FOR_RANGES)
            return
        yield Finding("ranges", OUTCOME_OK, "ranges are honoured")
    yield _suffix(probe)


def _suffix(probe: HTTPProbe) -> Finding:
    problem = ""
    try:
        answer = probe.get(f"bytes=-{_PROBE_BYTES}")
        check_status(answer.status, answer.reason, answer.headers)
        extent = parse_range_response(answer.status, answer.headers, None, _PROBE_BYTES)
        if extent.start + extent.size != extent.facts.size or len(answer.body) != extent.size:
            problem = "what is given is not the end"
    except Exception as error:  # noqa: BLE001
        problem = str(error) or type(error).__name__
    if not problem:
        return Finding("end of file", OUTCOME_OK, "ranges from the end are honoured")
    advice = "nothing: opening takes a round trip more"
    return Finding("end of file", OUTCOME_WARNING, f"no ranges from the end: {problem}", advice)


def _version(probe: HTTPProbe, first: HTTPAnswer) -> Finding:
    tag = first.headers.get("ETag")
    if tag:
        again = probe.get(f"bytes=0-{_PROBE_BYTES - 1}").headers.get("ETag")
        if (again or "").removeprefix("W/") != tag.removeprefix("W/"):
            return Finding(
                "version",
                OUTCOME_FAILED,
                f"two answers have the entity tags {tag} and {again}",
                "the servers behind this name disagree, or the file is being written: wait, or let "
                "their tags agree (Apache: FileETag MTime Size)",
            )
        return Finding("version", OUTCOME_OK, f"entity tag {tag}")
    modified = first.headers.get("Last-Modified")
    told = "no entity tag" + ("" if modified else ", and no date of change")
    shown = "its size and date" if modified else "its size"
    return Finding(
        "version",
        OUTCOME_WARNING,
        told,
        f"a file that is replaced while it is read shows by {shown} only: do not overwrite files in use",
    )


def _head(probe: HTTPProbe) -> Finding:
    try:
        status = probe.head()
        told = f"HTTP {status}"
    except Exception as error:  # noqa: BLE001
        status, told = 0, type(error).__name__
    if 200 <= status < 400:
        return Finding("HEAD", OUTCOME_OK, told)
    return Finding(
        "HEAD",
        OUTCOME_WARNING,
        f"not answered ({told})",
        "nothing here, which reads by GET; other tools may need it",
    )


def _unreachable(error: Exception, source: ByteSource) -> tuple[str, str]:
    """What keeps from connecting, and what to do."""
    text = source.hide(str(error)) or type(error).__name__
    names = {kind.__name__ for each in causes(error) for kind in type(each).__mro__}
    if names & {"gaierror", "ClientConnectorDNSError", "DNSError"}:
        return (
            f"the name does not resolve: {text}",
            "check the host in the URL, the network and VPN",
        )
    if any(isinstance(each, ssl.SSLError) for each in causes(error)) or "ClientSSLError" in names:
        advice = "check https or http in the URL; for an authority of your own set SSL_CERT_FILE"
        return f"no secure connection: {text}", advice
    if isinstance(error, TimeoutError):
        found = f"no answer within {source.patience_seconds:g} s"
        return found, "check the network, VPN and firewall; or wait longer: --patience"
    return f"no connection: {text}", "check the host and port, that the server runs, and proxies"
