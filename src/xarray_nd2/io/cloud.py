"""Reading ranges from the object stores of three clouds, by fsspec's filesystems for them.

Every answer of these stores tells the size and the entity tag of the object. The filesystems' own
`cat_file` drops them, so their clients are called here.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from xarray_nd2.io.answers import ObjectFacts, Part
from xarray_nd2.io.http import parse_range_response
from xarray_nd2.io.transport import ObjectTransport


class _CloudTransport(ObjectTransport):
    kind = "s3"

    def __init__(self, fs: Any, path: str) -> None:
        self._fs, self._path = fs, path
        self.loop = fs.loop


class S3Transport(_CloudTransport):
    """An object of an S3 store, by s3fs."""

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__(fs, path)
        self._bucket, self._key, self._version = fs.split_path(path)

    async def _get(self, range_header: str, start: int | None, count: int) -> Part:
        version = {"VersionId": self._version} if self._version else {}
        await self._fs.set_session()
        # Until s3fs has a public call that gives the headers of a range along with its bytes.
        response = await _with_one_attempt(self._fs)._call_s3(  # noqa: SLF001
            "get_object", Bucket=self._bucket, Key=self._key, Range=range_header, **version
        )
        first_byte = time.monotonic()
        headers = {
            "Content-Length": str(response["ContentLength"]),
            "Content-Range": response.get("ContentRange", ""),
            "ETag": response.get("ETag"),
        }
        async with response["Body"] as body:
            status = 206 if headers["Content-Range"] else 200
            begin, facts = parse_range_response(status, headers, start, count)
            data = await body.read()
        return Part(begin, data, facts, first_byte)


def _with_one_attempt(fs: Any) -> Any:
    """The filesystem as it is now, but that it makes one attempt instead of five.

    Who calls it tries again, and not for minutes. It shares all that the filesystem has, such as its
    session and credentials, and leaves it as it is, since its user may use it elsewhere.
    """
    # Until s3fs takes the number as an argument. Its copy would be the very instance.
    view = object.__new__(type(fs))
    vars(view).update(vars(fs), retries=1)
    return view


class GCSTransport(_CloudTransport):
    """An object of Google Cloud Storage, by gcsfs."""

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__(fs, path)
        # Without its own attempts, which take half a minute: until gcsfs takes their number as an
        # argument, and has a public call that gives the headers of a range along with its bytes.
        once = getattr(type(fs)._request, "__wrapped__", None)  # noqa: SLF001
        self._request = fs._request if once is None else partial(once, fs)  # noqa: SLF001

    async def _get(self, range_header: str, start: int | None, count: int) -> Part:
        url, asking = self._fs.url(self._path), {"Range": range_header}
        try:
            _, headers, _, data = await self._request("GET", url, headers=asking)
        except OSError as error:
            if type(error) is OSError and str(error).startswith("Forbidden"):
                raise PermissionError(str(error)) from error
            raise
        status = 206 if "Content-Range" in headers else 200
        begin, facts = parse_range_response(status, headers, start, count)
        return Part(begin, data, facts)


class AzureTransport(_CloudTransport):
    """A blob of Azure, by the client of adlfs; Azure refuses ranges that count from the end."""

    def __init__(self, fs: Any, path: str) -> None:
        super().__init__(fs, path)
        self._container, self._blob, self._version = fs.split_path(path)

    async def read(self, start: int, stop: int, _pinned: ObjectFacts | None = None, /) -> Part:
        client = self._fs.service_client.get_blob_client(self._container, self._blob)
        version = {"version_id": self._version} if self._version else {}
        async with client:
            # Who calls this tries again, and not for minutes.
            stream = await client.download_blob(start, stop - start, retry_total=0, **version)
            data = await stream.readall()
        size = int(stream.properties.content_range.rpartition("/")[2])
        return Part(start, data, ObjectFacts(size, stream.properties.etag))

    async def read_last(self, count: int) -> Part | None:  # noqa: ARG002
        return None
