"""The line of an evaluation reads as figures do: counts are whole numbers, and nothing is told that did not happen."""

from __future__ import annotations

from tinyvit_kd.training.progress import told_scores


def test_scores_have_two_decimals_and_counts_none() -> None:
    scores = {"top1": 100.0, "samples": 2400.0, "left_out": 0.0, "left_out_unlabelled": 0.0}
    assert told_scores(scores) == "top1 100.00  samples 2,400"
    scores |= {"left_out": 1200.0, "left_out_unlabelled": 1200.0, "raw_top1": 0.0}
    assert told_scores(scores) == "top1 100.00  samples 2,400  left_out 1,200  left_out_unlabelled 1,200  raw_top1 0.00"
