"""The estimate of what requests cost, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest

from xarray_nd2.read.link import DEFAULT_LINKS, AnswerTimes, Link, LinkObserver


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
        observer.observe([AnswerTimes(0.0, 0.001, 0.002, 800_000)])
    assert observer.link.latency == pytest.approx(0.001, rel=0.1)
    assert observer.link.bandwidth == pytest.approx(800e6, rel=0.1)


def test_short_transfers_tell_only_of_more_bandwidth() -> None:
    """Two answers a few milliseconds apart are no slow link."""
    observer = LinkObserver(DEFAULT_LINKS["http"])
    observer.observe(
        [AnswerTimes(0.0, 0.02, 0.021, 262_144), AnswerTimes(0.0, 0.02, 0.034, 262_144)]
    )
    assert observer.link.bandwidth == DEFAULT_LINKS["http"].bandwidth
    observer.observe([AnswerTimes(0.0, 0.02, 0.022, 1_000_000)])
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
