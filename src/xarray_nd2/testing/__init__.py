"""What tests of remote ND2 reading need: small synthetic files, and servers that count.

`write_nd2` writes files whose every property is chosen, `write_legacy_nd2` those of version 1. `RangeServer` and `S3Server` serve them on
loopback and keep a log of every request, its bytes and its time; they can be slow and faulty too.
"""

from __future__ import annotations

from xarray_nd2.testing.channel import Channel
from xarray_nd2.testing.events import Event, Stimulation
from xarray_nd2.testing.faults import Fault
from xarray_nd2.testing.http_server import RangeServer
from xarray_nd2.testing.legacy import write_legacy_nd2
from xarray_nd2.testing.levels import Levels
from xarray_nd2.testing.masks import MaskLayer
from xarray_nd2.testing.recorded import RecordedColumn
from xarray_nd2.testing.request_log import Request, RequestLog
from xarray_nd2.testing.rois import Outline, Roi
from xarray_nd2.testing.s3_server import S3Server
from xarray_nd2.testing.wells import Plate, Well
from xarray_nd2.testing.writer import write_nd2

__all__ = [
    "Channel",
    "Event",
    "Fault",
    "Outline",
    "Levels",
    "MaskLayer",
    "Plate",
    "RangeServer",
    "RecordedColumn",
    "Request",
    "RequestLog",
    "Roi",
    "S3Server",
    "Stimulation",
    "Well",
    "write_legacy_nd2",
    "write_nd2",
]
