"""Interleaved timing: one round calls every rival once, so that a machine that slows down slows all of them."""

import random
import statistics
import time

__all__ = ["ratios", "side_by_side"]


def side_by_side(calls, *, rounds, warmup=1, clock=time.perf_counter, slow=()):
    """Time each call once a round and return name -> seconds per round.

    The order is drawn anew in every round: whoever follows a rival that has filled the caches pays for it. `clock` is
    `time.perf_counter` for wall time or `time.process_time` for CPU time, which counts all threads of the process and
    does not count waiting for a core. The names in `slow` take part in the first round only, without a warm-up.
    """
    names = list(calls)
    for _ in range(warmup):
        for name in names:
            if name not in slow:
                calls[name]()
    seconds = {name: [] for name in names}
    order = random.Random(0)
    for round_ in range(rounds):
        for name in order.sample(names, len(names)):
            if round_ and name in slow:
                continue
            begin = clock()
            result = calls[name]()
            seconds[name].append(clock() - begin)
            del result  # giving a million dicts back takes long, and is not what was asked
    return seconds


def ratios(seconds, *, of):
    """Return name -> (median, lowest, highest) of each rival's time over the time of `of` in the same round."""
    found = {}
    for name, times in seconds.items():
        rounds = [time_ / base for time_, base in zip(times, seconds[of], strict=False)]  # slow ones miss later rounds
        found[name] = (statistics.median(rounds), min(rounds), max(rounds))
    return found
