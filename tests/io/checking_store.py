"""A store with the interface of S3 that checks signatures, as none of the emulators does."""

from __future__ import annotations

import time
from calendar import timegm
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from xarray_nd2.testing import RangeServer
from xarray_nd2.testing.answers import Answer, Asked

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SKEW_SECONDS = 900
DENIED = (403, "AccessDenied", "Access Denied")
EXPIRED = (403, "AccessDenied", "Request has expired")
SKEWED = (403, "RequestTimeTooSkewed", "The difference between the request time and ours is large")
MISMATCH = (403, "SignatureDoesNotMatch", "The signature does not match")
UNKNOWN_KEY = (403, "InvalidAccessKeyId", "The key is not in our records")


def error_answer(status: int, code: str, message: str, *headers: tuple[str, str]) -> Answer:
    """An answer as S3 gives it."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, [("Content-Type", "application/xml"), *headers], text.encode())


@dataclass(frozen=True)
class Seen:
    """A request: by a ``url``, by the ``client`` or ``anonymous``; its key, and what came of it."""

    by: str
    key: str
    status: int
    asked: Asked

    @property
    def signature(self) -> str:
        return dict(parse_qsl(urlsplit(self.asked.target).query)).get("X-Amz-Signature", "")


class CheckingStore(RangeServer):
    """Objects by ``bucket/key``, of all versions, for those whose signature is right."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets = {"KEY": "hush-of-the-key"}
        self.public = False
        self.clock_ahead = 0.0
        self.refuse: Callable[[str, Asked], Answer | None] = lambda by, asked: None
        self.seen: list[Seen] = []

    @property
    def options(self) -> dict[str, str]:
        return {"key": "KEY", "secret": self.secrets["KEY"], "endpoint_url": self.endpoint_url}

    def by(self) -> list[str]:
        """How the requests since the last call were made, each way once."""
        ways = sorted({one.by for one in self.seen})
        self.seen.clear()
        return ways

    def answer(self, asked: Asked) -> Answer:
        query = dict(parse_qsl(urlsplit(asked.target).query, keep_blank_values=True))
        if "X-Amz-Signature" in query:
            by, fields = "url", query
            credential = query["X-Amz-Credential"]
        elif "authorization" in asked.headers:
            text = asked.headers["authorization"].partition(" ")[2]
            fields = dict(part.strip().split("=", 1) for part in text.split(","))
            by, credential = "client", fields["Credential"]
        else:
            by, fields, credential = "anonymous", {}, ""
        answer = (
            self.refuse(by, asked)
            or self._refusal(by, asked, fields, credential)
            or super().answer(asked)
        )
        self.seen.append(Seen(by, credential.partition("/")[0], answer.status, asked))
        return answer

    def _find_object(self, path: str) -> Any:
        path = urlsplit(path).path if "://" in path else path  # as a proxy is asked
        return super()._find_object(path)

    def _refusal(
        self, by: str, asked: Asked, fields: dict[str, str], credential: str
    ) -> Answer | None:
        if by == "anonymous":
            return None if self.public else error_answer(*DENIED)
        key, _, region, service, _ = credential.split("/")
        if key not in self.secrets:
            return error_answer(*UNKNOWN_KEY)
        is_url = by == "url"
        stamp = fields["X-Amz-Date"] if is_url else asked.headers["x-amz-date"]
        age = time.time() + self.clock_ahead - timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
        if is_url and age > int(fields["X-Amz-Expires"]):
            return error_answer(*EXPIRED)
        if age < -MAX_SKEW_SECONDS or (not is_url and age > MAX_SKEW_SECONDS):
            return error_answer(*SKEWED)
        named = fields["X-Amz-SignedHeaders" if is_url else "SignedHeaders"].split(";")
        given = fields["X-Amz-Signature" if is_url else "Signature"]
        base, _, query = asked.target.partition("?")
        kept = [pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature=")]
        url = base if "://" in base else f"http://{asked.headers['host']}{base}"
        request = AWSRequest(
            "GET",
            f"{url}?{'&'.join(kept)}" if query else url,
            headers={name: asked.headers.get(name, "") for name in named},
        )
        request.context["timestamp"] = stamp
        kind = S3SigV4QueryAuth if is_url else S3SigV4Auth
        auth = kind(Credentials(key, self.secrets[key]), service, region)
        canonical = auth.canonical_request(request)
        right = auth.signature(auth.string_to_sign(request, canonical), request)
        extra = {name for name in asked.headers if name.startswith("x-amz-")} - set(named)
        return None if given == right and not (is_url and extra) else error_answer(*MISMATCH)
