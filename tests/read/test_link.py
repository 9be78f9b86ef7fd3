"""The estimate of what requests cost, and what it learns."""

from __future__ import annotations

import io

import numpy as np
import pytest
import xarray as xr

from xarray_nd2.read import decode
from xarray_nd2.read.inflate import FrameCache, FrameStream
from xarray_nd2.read.link import DEFAULT_LINKS, Answer, Link, LinkObserver
from xarray_nd2.testing import write_nd2


def test_seconds() -> None:
    link = Link(latency=0.1, bandwidth=1000.0, overhead=0.01)
    seconds = link.seconds(np.array([1, 4, 5]), np.array([0, 1000, 0]), concurrency=4)
    np.testing.assert_allclose(seconds, [0.11, 0.1 + 0.04 + 1, 0.2 + 0.05])


def test_observes_latency_and_bandwidth() -> None:
    observer = LinkObserver(DEFAULT_LINKS["http"])
    observer.observe([Answer(0.0, 0.08, 0.13, 250_000), Answer(0.0, 0.09, 0.13, 250_000)])
    assert observer.link.latency == pytest.approx(0.08)
    assert observer.link.bandwidth == pytest.approx(500_000 / 0.05)
    for _ in range(40):
        observer.observe([Answer(0.0, 0.001, 0.002, 800_000)])
    assert observer.link.latency == pytest.approx(0.001, rel=0.1)
    assert observer.link.bandwidth == pytest.approx(800e6, rel=0.1)


def test_short_transfers_tell_only_of_more_bandwidth() -> None:
    """Two answers a few milliseconds apart are no slow link."""
    observer = LinkObserver(DEFAULT_LINKS["http"])
    observer.observe([Answer(0.0, 0.02, 0.021, 262_144), Answer(0.0, 0.02, 0.034, 262_144)])
    assert observer.link.bandwidth == DEFAULT_LINKS["http"].bandwidth
    observer.observe([Answer(0.0, 0.02, 0.022, 1_000_000)])
    assert observer.link.bandwidth == pytest.approx(500e6)
    for _ in range(99):
        observer.observe([Answer(0.0, 0.02, 0.0201, 10_000_000)])
    assert observer.link.bandwidth == pytest.approx(1.25e9)


def test_of_choices_about_as_quick_the_one_of_fewest_bytes() -> None:
    link = Link(latency=0.02, bandwidth=1e9, overhead=0.0004)
    gaps, counts = np.array([4_000, 400_000]), np.array([30_000, 110])
    assert link.best_gap(gaps, counts, 8_000_000, 64) == 4_000
    assert link.best_gap(np.array([20_000]), np.array([1000]), 16_000_000, 64) == 20_000


def test_small_answers_tell_of_latency_alone() -> None:
    observer = LinkObserver(DEFAULT_LINKS["s3"])
    observer.observe([Answer(1.0, None, 1.25, 100), Answer(1.0, None, 3.0, 10_000_000)])
    assert observer.link.latency == 0.25
    assert observer.link.bandwidth == DEFAULT_LINKS["s3"].bandwidth
    observer.observe([])
    assert observer.link.latency == 0.25


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
            np.testing.assert_array_equal(ds.image[:, 40:50].values, frames[:, 40:50])
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
