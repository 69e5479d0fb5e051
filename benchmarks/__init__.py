"""Claims of the README, each measured beside its rivals: same data, same process, interleaved, results compared."""
