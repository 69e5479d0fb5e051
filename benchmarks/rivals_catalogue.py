"""Item catalogues as people write them today: two Python dicts, and sorted NumPy arrays of fixed-width strings."""

import gc
import tracemalloc

import numpy as np

__all__ = ["DictCatalogue", "SortedCatalogue", "traced_bytes"]


class DictCatalogue:
    """One dict from id to a tuple of codes, and one back."""

    def __init__(self, item_ids, codes):
        rows = list(map(tuple, codes.tolist()))
        self.codes = dict(zip(item_ids, rows, strict=True))
        self.items = dict(zip(rows, item_ids, strict=True))

    def codes_of(self, item_ids):
        codes = self.codes
        return np.array([codes[item_id] for item_id in item_ids])

    def items_of(self, rows):
        items = self.items
        return [items[row] for row in map(tuple, rows.tolist())]


class SortedCatalogue:
    """Ids and packed codes in sorted arrays, searched by `numpy.searchsorted`; no dict, no pandas."""

    def __init__(self, item_ids, codes):
        self.ids = np.array(item_ids)
        self.by_id = np.argsort(self.ids)
        self.sorted_ids = self.ids[self.by_id]
        self.rows = codes
        keys = self._pack(codes)
        self.by_key = np.argsort(keys)
        self.sorted_keys = keys[self.by_key]

    @staticmethod
    def _pack(codes):
        key = np.zeros(len(codes), np.int64)
        for column in codes.T:
            key = (key << 16) | column.astype(np.int64)
        return key

    def codes_of(self, item_ids):
        return self.rows[self.by_id[np.searchsorted(self.sorted_ids, np.array(item_ids))]]

    def items_of(self, rows):
        return self.ids[self.by_key[np.searchsorted(self.sorted_keys, self._pack(rows))]].tolist()


def traced_bytes(build):
    """Return what `build` made and how many bytes more are allocated than before, marisa's own memory not counted."""
    gc.collect()
    tracemalloc.start()
    try:
        built = build()
        gc.collect()
        return built, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
