"""Bars of inner loops: only where they are asked for, and only at a terminal."""

import io
import sys

import numpy as np

import semid
from semid._progress import progress_bar, show_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def count(label):
    with progress_bar(label, total=3) as bar:
        bar.delay = 0
        for _ in range(3):
            bar.update(1)
        bar.refresh()
        return bool(bar.disable)


def test_hidden_unless_asked_for(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert count("quiet") is True
    assert terminal.getvalue() == ""


def test_shown_at_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with show_progress():
        assert count("loud") is False
    assert "loud" in terminal.getvalue() and "3.00/3.00" in terminal.getvalue()
    assert count("quiet again") is True


def test_silent_in_a_pipe(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with show_progress():
        assert count("piped") is True
    assert stream.getvalue() == ""


def test_every_row_is_counted(monkeypatch, rng):
    """`encode` and the neighbour recall tell how far they are, in rows."""
    seen = {}

    class Bar:
        def __init__(self, label, *, total):
            self.label = label
            seen[label] = [total, 0]

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, n):
            seen[self.label][1] += n

    monkeypatch.setattr("semid._threads.progress_bar", Bar)
    monkeypatch.setattr("semid.metrics.neighbors.progress_bar", Bar)
    X = rng.standard_normal((3_000, 8)).astype(np.float32)
    quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=8).fit(X)
    semid.report(X, quantizer.encode(X), quantizer, sample=20)
    assert seen["encode"] == [3_000, 3_000]
    assert seen["neighbor recall"] == [12_000, 12_000]
