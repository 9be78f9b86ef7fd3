"""Lossless frames: inflated as far as needed, and the ones that are kept."""

from __future__ import annotations

import io

import numpy as np
import pytest
import xarray as xr

from xarray_nd2.read import decode
from xarray_nd2.read.inflate import FrameCache, FrameStream
from xarray_nd2.testing import write_nd2


def test_frame_cache_keeps_what_was_used_last() -> None:
    cache = FrameCache(capacity=100)
    cache.put("a", bytes(40))
    cache.put("b", bytes(40))
    assert cache.get("a", needed=40) == bytes(40)
    cache.put("c", bytes(40))
    assert cache.get("b", needed=1) is None
    assert cache.get("a", needed=1) is not None
    assert cache.get("a", needed=41) is None
    cache.put("d", bytes(101))
    assert cache.get("d", needed=1) is None
    assert cache.get("c", needed=40) is not None


def test_lossless_frames_are_not_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(4).integers(0, 9, (10, 64, 64)).astype("uint16")
    file = io.BytesIO()
    write_nd2(file, frames, "TYX", compression="lossless")
    ds = xr.open_dataset(io.BytesIO(file.getvalue()), engine="nd2", cache=False)
    held: set[int] = set()
    most = 0
    feed, take = FrameStream.feed, FrameStream.take

    def fed(self: FrameStream, data: bytes) -> None:
        nonlocal most
        feed(self, data)
        held.add(self.frame)
        most = max(most, len(held))

    def taken(self: FrameStream) -> bytes:
        held.remove(self.frame)
        frame = take(self)
        assert self.finished
        assert not self._parts
        return frame

    monkeypatch.setattr(FrameStream, "feed", fed)
    monkeypatch.setattr(FrameStream, "take", taken)
    for attribute, limit in (("_MAX_OPEN_STREAMS", 3), ("_MAX_INFLATING_BYTES", 3 * 8192)):
        with monkeypatch.context() as patch:
            patch.setattr(decode, attribute, limit)
            np.testing.assert_array_equal(ds.image[:, 0, 40:50].values, frames[:, 40:50])
    assert not held
    assert 0 < most <= 3


@pytest.mark.parametrize("skipped", [0, 1])
@pytest.mark.parametrize("rows", [1, 100, 900, 1024])
@pytest.mark.parametrize("kind", ["noise", "flat", "late"])
def test_stream_is_fetched_as_far_as_needed(rows: int, kind: str, skipped: int) -> None:
    import zlib

    rng = np.random.default_rng(0)
    frame = {
        "noise": rng.poisson(300, (1024, 512)),
        "flat": np.zeros((1024, 512)),
        "late": np.where(np.arange(1024)[:, None] < 512, 0, rng.integers(0, 2**16, (1024, 512))),
    }[kind].astype("uint16")
    data = zlib.compress(frame.tobytes())
    first = skipped * (rows * 1024 - 500)
    stream = FrameStream(0, 1000, 1000 + len(data), first, rows * 1024, frame.nbytes)
    fetched = rounds = 0
    while not stream.finished:
        stop = stream.fetch_to
        piece = data[stream.at - 1000 : stop - 1000]
        assert piece
        stream.feed(piece)
        fetched += len(piece)
        rounds += 1
    assert stream.take() == frame.tobytes()[first : rows * 1024]
    assert stream.finished
    assert fetched <= len(data)
    assert rounds <= 6
    if kind == "noise" and rows == 100:
        assert fetched < 0.15 * len(data)
        assert rounds == 1
