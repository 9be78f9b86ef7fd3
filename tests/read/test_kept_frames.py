"""Frames that are kept: which go first, and how many bytes stay."""

from __future__ import annotations

import numpy as np

from xarray_nd2.read.kept_frames import KeptFrames

FRAME = np.zeros((1, 4, 10, 1), "u1")  # 40 bytes


def test_what_was_used_longest_ago_goes_first() -> None:
    kept = KeptFrames(capacity=1000)
    for key in (1, 2, 3):
        kept.put("file", key, FRAME, limit=120)
    assert list(kept.get("file", [1])) == [1]
    kept.put("file", 4, FRAME, limit=120)
    assert kept.missing("file", [1, 2, 3, 4]) == [2]
    assert kept.nbytes == 120
    kept.missing("file", [3])  # no use of it
    kept.put("file", 5, FRAME, limit=120)
    assert kept.missing("file", [1, 3, 4, 5]) == [3]


def test_a_frame_that_comes_again_counts_once() -> None:
    kept = KeptFrames(capacity=1000)
    for _ in range(3):
        kept.put("file", 1, FRAME, limit=120)
    assert kept.nbytes == 40


def test_files_are_bounded_each_and_together() -> None:
    kept = KeptFrames(capacity=200)
    for file in "abc":
        for key in range(3):
            kept.put(file, key, FRAME, limit=80)
    assert kept.nbytes == 200
    assert kept.missing("a", range(3)) == [0, 1]
    assert kept.missing("b", range(3)) == kept.missing("c", range(3)) == [0]
    kept.get("a", [2])
    kept.put("d", 0, FRAME, limit=80)
    assert kept.missing("b", range(3)) == [0, 1], "of the file that was used longest ago"
    assert kept.missing("a", [2]) == []
    assert kept.nbytes == 200


def test_what_does_not_fit_is_not_kept() -> None:
    kept = KeptFrames(capacity=100)
    kept.put("a", 1, FRAME, limit=39)
    assert kept.nbytes == 0
    for key in range(4):
        kept.put("b", key, FRAME, limit=1000)
    assert kept.nbytes == 80
    assert kept.get("nothing", [1]) == {}
