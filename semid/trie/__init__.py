"""The trie: unique codes as an immutable index over which a decoder can only reach items."""

from semid.trie.build import DuplicateCodesWarning
from semid.trie.rank_lists import RankLists
from semid.trie.selection import Selection, select_rows
from semid.trie.sequences import pad_sequences
from semid.trie.trie import Trie

__all__ = ["DuplicateCodesWarning", "RankLists", "Selection", "Trie", "pad_sequences", "select_rows"]
