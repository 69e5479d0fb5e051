"""The trie: unique codes as an immutable index over which a decoder can only reach items."""

from semid.trie.build import DuplicateCodesWarning, pad_sequences
from semid.trie.selection import RankLists, Selection
from semid.trie.trie import Trie, select_rows

__all__ = ["DuplicateCodesWarning", "RankLists", "Selection", "Trie", "pad_sequences", "select_rows"]
