"""Interleaved timing: one round calls every rival once, so that a machine that slows down slows all of them."""

import random
import statistics
import time

__all__ = ["ratios", "side_by_side"]


def side_by_side(calls, *, rounds, warmup=1):
    """Time each call once a round and return name -> seconds per round.

    The order is drawn anew in every round: whoever follows a rival that has filled the caches pays for it.
    """
    names = list(calls)
    for _ in range(warmup):
        for name in names:
            calls[name]()
    seconds = {name: [] for name in names}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(names, len(names)):
            begin = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratios(seconds, *, of):
    """Return name -> (median, lowest, highest) of each rival's time over the time of `of` in the same round."""
    found = {}
    for name, times in seconds.items():
        rounds = [time_ / base for time_, base in zip(times, seconds[of], strict=True)]
        found[name] = (statistics.median(rounds), min(rounds), max(rounds))
    return found
