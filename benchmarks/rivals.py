"""Tries that people use today, written as well as we can: a nested dict and marisa-trie."""

import marisa_trie
import numpy as np

__all__ = ["DictTrie", "MarisaTrie"]


class DictTrie:
    """Nested dictionaries, as in most published code; an item's path ends in an empty dict."""

    def __init__(self, codes):
        self.root, self.n_levels = {}, codes.shape[1]
        for row in codes.tolist():  # Python ints once, not a NumPy scalar per level
            node = self.root
            for code in row:
                node = node.setdefault(code, {})

    def rows(self):
        """Return all items in lexicographic order."""
        paths = [((), self.root)]
        for _ in range(self.n_levels):
            paths = [((*path, code), node[code]) for path, node in paths for code in sorted(node)]
        return np.array([path for path, _ in paths])

    def allowed(self, prefixes):
        found = []
        for row in prefixes.tolist():
            node = self.root
            for code in row:
                node = node[code]
            found.append(list(node))
        return found


class MarisaTrie:
    """A succinct string trie with one character per code.

    It has no call for the children of a prefix. Listing the keys below costs as many steps as there are items, probing
    every code as many as there are codes; near the root we probe, further down we list, whichever is faster here.
    """

    FIRST = 256  # keeps clear of the control characters

    def __init__(self, codes, codebook_size):
        self.trie = marisa_trie.Trie(map(self.key, codes.tolist()))
        self.letters = [chr(self.FIRST + code) for code in range(codebook_size)]

    def rows(self):
        """Return all items in lexicographic order."""
        keys = sorted(self.trie.keys())
        letters = np.frombuffer("".join(keys).encode("utf-32-le"), np.uint32)
        return letters.reshape(len(keys), -1).astype(np.int64) - self.FIRST

    def key(self, row):
        return "".join([chr(self.FIRST + code) for code in row])

    def allowed(self, prefixes):
        depth, first, trie = prefixes.shape[1], self.FIRST, self.trie
        found = []
        for row in prefixes.tolist():
            prefix = self.key(row)
            if depth < 2:
                codes = [code for code, letter in enumerate(self.letters) if next(trie.iterkeys(prefix + letter), None)]
            else:
                codes = sorted({ord(key[depth]) - first for key in trie.iterkeys(prefix)})
            found.append(codes)
        return found
