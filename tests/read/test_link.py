"""The estimate of what requests cost, and what it learns."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from tests.read.test_plan import layout_of
from xarray_nd2.read.coalesce import MAX_REQUEST_BYTES
from xarray_nd2.read.decode import empty_pixels, rounds
from xarray_nd2.read.link import DEFAULT_LINKS, AnswerTimes, Link, LinkObserver
from xarray_nd2.read.plan import ReadPlan, plan_read
from xarray_nd2.read.selection import Selection, select_outer

CONCURRENCY = 64
FAST = Link(latency=0.08, bandwidth=1e9, overhead=0.0004)
SLOW = Link(latency=0.08, bandwidth=10e6, overhead=0.0004)
FRAME = layout_of((), 1, 8192, 8192)
ROW_GAP = 8192 * 2  # bytes; no gap between the rows of a crop is larger
OPENING = [(0, 262_144), (10**8, 10**8 + 262_144)]
WHOLE = [(at * MAX_REQUEST_BYTES, (at + 1) * MAX_REQUEST_BYTES) for at in range(32)]


def answers_over(link: Link, ranges: list[tuple[int, int]]) -> list[AnswerTimes]:
    """Times of the answers over a link that sends one after the other, to a client that has work."""
    slots = [0.0] * CONCURRENCY
    sent = done = 0.0
    answers = []
    for start, stop in ranges:
        asked = heapq.heappop(slots)
        first = max(asked + link.latency, sent)
        sent = first + (stop - start) / link.bandwidth
        done = max(sent, done) + link.overhead
        answers.append(AnswerTimes(asked, first, done, stop - start))
        heapq.heappush(slots, done)
    return answers


def crop_of(edge: int) -> Selection:
    return select_outer(FRAME, (0, slice(100, 100 + edge), slice(300, 300 + edge)))


def planned(crop: Selection, observer: LinkObserver) -> ReadPlan:
    return plan_read(FRAME, crop, None, observer.link, CONCURRENCY, probing=True)


def seconds_over(link: Link, plan: ReadPlan) -> float:
    counts = np.array([plan.requests]), np.array([plan.bytes_fetched])
    return float(link.seconds(*counts, CONCURRENCY)[0])


def test_seconds() -> None:
    link = Link(latency=0.1, bandwidth=1000.0, overhead=0.01)
    seconds = link.seconds(np.array([1, 4, 5]), np.array([0, 1000, 0]), concurrency=4)
    np.testing.assert_allclose(seconds, [0.11, 0.1 + 0.04 + 1, 0.2 + 0.05])


def test_observes_latency_and_bandwidth() -> None:
    observer = LinkObserver(DEFAULT_LINKS["http"])
    observer.observe([AnswerTimes(0.0, 0.08, 0.13, 250_000), AnswerTimes(0.0, 0.09, 0.13, 250_000)])
    assert observer.link.latency == pytest.approx(0.08)
    assert observer.link.bandwidth == pytest.approx(500_000 / 0.05)
    for _ in range(40):
        observer.observe([AnswerTimes(0.0, 0.001, 0.101, 80_000_000)])
    assert observer.link.latency == pytest.approx(0.001, rel=0.1)
    assert observer.link.bandwidth == pytest.approx(800e6, rel=0.1)


def test_short_transfers_tell_only_of_more_bandwidth() -> None:
    """Two answers a few milliseconds apart are no slow link."""
    observer = LinkObserver(DEFAULT_LINKS["http"])
    observer.observe(
        [AnswerTimes(0.0, 0.02, 0.021, 262_144), AnswerTimes(0.0, 0.02, 0.034, 262_144)]
    )
    assert observer.link.bandwidth == DEFAULT_LINKS["http"].bandwidth
    observer.observe([AnswerTimes(0.0, 0.02, 0.022, 2_000_000)])  # half of which may be a burst
    assert observer.link.bandwidth == pytest.approx(500e6)
    for _ in range(99):
        observer.observe([AnswerTimes(0.0, 0.02, 0.0201, 10_000_000)])
    assert observer.link.bandwidth == pytest.approx(1.25e9)


def test_of_choices_about_as_quick_the_one_of_fewest_bytes() -> None:
    link = Link(latency=0.02, bandwidth=1e9, overhead=0.0004)
    gaps, counts = np.array([4_000, 400_000]), np.array([30_000, 110])
    assert link.best_gap(gaps, counts, 8_000_000, 64) == 4_000
    assert link.best_gap(np.array([20_000]), np.array([1000]), 16_000_000, 64) == 20_000


def test_small_answers_tell_of_latency_alone() -> None:
    observer = LinkObserver(DEFAULT_LINKS["s3"])
    observer.observe([AnswerTimes(1.0, None, 1.25, 100), AnswerTimes(1.0, None, 3.0, 10_000_000)])
    assert observer.link.latency == 0.25
    assert observer.link.bandwidth == DEFAULT_LINKS["s3"].bandwidth
    observer.observe([])
    assert observer.link.latency == 0.25


@pytest.mark.parametrize(("before", "after"), [(FAST, SLOW), (SLOW, FAST)])
@pytest.mark.parametrize("ranges", [OPENING, WHOLE])
def test_a_hundredfold_change_is_known_after_two_observations(
    before: Link, after: Link, ranges: list[tuple[int, int]]
) -> None:
    observer = LinkObserver(DEFAULT_LINKS["http"])
    for link in [before] * 50 + [after] * 2:
        observer.observe(answers_over(link, ranges))
    assert after.bandwidth / 3 < observer.link.bandwidth < after.bandwidth * 3


@pytest.mark.parametrize(("before", "after"), [(0.001, 0.1), (0.1, 0.001)])
def test_latency_is_known_after_two_observations(before: float, after: float) -> None:
    observer = LinkObserver(DEFAULT_LINKS["http"])
    for latency in [before] * 50 + [after] * 2:
        observer.observe([AnswerTimes(0.0, latency, latency, 100)])
    assert observer.link.latency == after


@pytest.mark.parametrize("steady", [FAST, SLOW])
def test_what_was_held_up_once_changes_nothing(steady: Link) -> None:
    observer = LinkObserver(DEFAULT_LINKS["http"])
    for _ in range(2):
        observer.observe(answers_over(steady, WHOLE))
    known = observer.link
    late = AnswerTimes(0.0, 1.0 + steady.latency, 2.0 + steady.latency, 262_144)
    for answers in ([late], answers_over(steady, WHOLE)) * 3:
        observer.observe(answers)
        assert observer.link == known


def test_a_burst_is_forgotten_after_two_observations() -> None:
    observer = LinkObserver(DEFAULT_LINKS["http"])
    observer.observe(answers_over(SLOW, WHOLE))
    known = observer.link
    observer.observe([AnswerTimes(0.0, 0.08, 0.0801, 2_000_000)])
    assert observer.link.bandwidth == 1.25e9
    for _ in range(2):
        observer.observe(answers_over(SLOW, WHOLE))
    assert observer.link.bandwidth == pytest.approx(known.bandwidth)


def test_what_lay_in_a_buffer_while_the_client_was_busy_is_no_burst() -> None:
    """Its first byte was seen as late as its last, long after it was due."""
    observer = LinkObserver(SLOW)
    observer.observe([AnswerTimes(0.0, 0.08, 0.08, 500), AnswerTimes(0.0, 0.1099, 0.11, 200_000)])
    assert observer.link.bandwidth == SLOW.bandwidth


@pytest.mark.parametrize("link", [FAST, SLOW])
@pytest.mark.parametrize("size", [200_000, MAX_REQUEST_BYTES])
def test_waiting_for_latency_is_no_lack_of_bandwidth(link: Link, size: int) -> None:
    """Requests that are made in waves bring nothing for most of the time."""
    observer = LinkObserver(link)
    seconds = size / link.bandwidth
    observer.observe(
        [
            AnswerTimes(wave, wave + link.latency, wave + link.latency + seconds, size)
            for wave in (0.0, 10.0, 20.0)
        ]
    )
    assert observer.link.bandwidth == pytest.approx(link.bandwidth)


@pytest.mark.parametrize("link", [FAST, SLOW])
def test_small_answers_and_the_work_with_them_leave_the_bandwidth(link: Link) -> None:
    observer = LinkObserver(link)
    for _ in range(5):
        observer.observe(answers_over(link, [(0, 500_000), *[(0, 2000)] * 1000]))
    assert observer.link.bandwidth == pytest.approx(link.bandwidth)


def test_a_burst_is_no_bandwidth() -> None:
    """Links let some bytes through at once that they will not keep up."""
    observer = LinkObserver(SLOW)
    for _ in range(3):
        observer.observe([AnswerTimes(0.0, 0.08, 0.085, 150_000)])  # 100,000 of them at once
        assert observer.link.bandwidth == SLOW.bandwidth


@pytest.mark.parametrize("edge", [256, 1024])
@pytest.mark.parametrize("reads_before", [0, 1, 5])
@pytest.mark.parametrize(
    ("latency", "slow"),
    [(0.001, 10e6), (0.02, 10e6), (0.02, 1e6), (0.08, 10e6), (0.08, 1e6), (0.2, 10e6), (0.2, 1e6)],
)
@pytest.mark.parametrize("turns_fast", [False, True])
def test_the_third_read_after_a_change_is_near_the_best(
    edge: int, reads_before: int, latency: float, slow: float, turns_fast: bool
) -> None:
    links = [Link(latency, slow, 0.0004), Link(latency, slow * 100, 0.0004)]
    before, after = links if turns_fast else links[::-1]
    crop = crop_of(edge)
    observer = LinkObserver(DEFAULT_LINKS["http"])
    observer.observe(answers_over(before, OPENING))
    for link in [before] * reads_before + [after] * 2:
        observer.observe(answers_over(link, planned(crop, observer).ranges))
    third = planned(crop, observer)
    fixed = [plan_read(FRAME, crop, gap, after, CONCURRENCY) for gap in (0, ROW_GAP)]
    best = min(seconds_over(after, plan) for plan in fixed)
    assert seconds_over(after, third) <= 1.35 * best


def test_a_plan_that_reads_little_probes_the_link() -> None:
    """One request reads over some gaps, for no more time than is about as quick."""
    crop = crop_of(256)
    plain = plan_read(FRAME, crop, None, SLOW, CONCURRENCY)
    probing = plan_read(FRAME, crop, None, SLOW, CONCURRENCY, probing=True)
    assert plain.requests == 256
    sizes = probing.stops - probing.starts
    assert sizes[0] > 500_000
    assert set(sizes[1:].tolist()) == {512}
    assert probing.requests == 257 - len(range(0, int(sizes[0]), ROW_GAP))
    assert seconds_over(SLOW, probing) <= 1.15 * seconds_over(SLOW, plain)


@pytest.mark.parametrize(("link", "max_gap"), [(FAST, None), (SLOW, 0)])
def test_no_other_plan_does(link: Link, max_gap: int | None) -> None:
    crop = crop_of(256)
    plain = plan_read(FRAME, crop, max_gap, link, CONCURRENCY)
    assert plan_read(FRAME, crop, max_gap, link, CONCURRENCY, probing=True).ranges == plain.ranges
    nothing = crop_of(0)
    assert not plan_read(FRAME, nothing, None, SLOW, CONCURRENCY, probing=True).ranges


def test_a_read_that_tells_by_itself_or_has_little_to_gain_does_not() -> None:
    layout = layout_of((("T", 10),), 2, 256, 256)
    crop = select_outer(layout, (slice(None), slice(None), slice(64, 128), slice(32, 160)))
    for latency, bandwidth in ((0.003, 500e6), (0.01, 500e6), (0.02, 100e6), (0.08, 100e6)):
        link = Link(latency, bandwidth, overhead=0.0004)
        plain = plan_read(layout, crop, None, link, CONCURRENCY)
        probing = plan_read(layout, crop, None, link, CONCURRENCY, probing=True)
        assert probing.ranges == plain.ranges
        assert plain.requests == 10


def test_a_probe_that_is_waited_for() -> None:
    """Where latency is short, the others are requested when it has come; the pixels are the same."""
    near = Link(0.002, 4e6, overhead=0.0004)
    frame = np.arange(2**20, dtype="<u2").reshape(256, -1)
    layout = layout_of((), 1, *frame.shape)
    start = int(layout.offsets.values()[0])
    data = bytes(start) + frame.tobytes()
    crop = select_outer(layout, (0, slice(3, 250), slice(7, 20)))
    plan = plan_read(layout, crop, None, near, CONCURRENCY, probing=True)
    pixels = empty_pixels(plan)
    asked = []
    for ranges, deliver in rounds(plan, pixels):
        asked.append(len(ranges))
        for number, (begin, stop) in enumerate(ranges):
            deliver(number, data[begin:stop])
    assert asked == [1, plan.requests - 1]
    np.testing.assert_array_equal(crop.arrangement.apply(pixels), frame[3:250, 7:20])
