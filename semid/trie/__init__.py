"""The trie: unique codes as an immutable index over which a decoder can only reach items."""

from semid.trie.build import DuplicateCodesWarning
from semid.trie.trie import Selection, Trie

__all__ = ["DuplicateCodesWarning", "Selection", "Trie"]
