"""The trie over semantic IDs: an immutable index, asked by prefix, by node, and one beam step at a time."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, BoolArray, CodeArray, IntArray
from semid._checks import as_array, check_count, check_integer, check_ranks
from semid.errors import InvalidTypeError, InvalidValueError
from semid.kernels import kernel
from semid.trie import masking
from semid.trie.build import build_levels, merge_levels, pad_sequences, update_levels
from semid.trie.checks import (
    FROM_WALK,
    check_code_rows,
    check_depth,
    check_nodes,
    check_prefixes,
    check_restriction,
    plain_floats,
    plain_int64,
    sizes_of,
)
from semid.trie.levels import (
    EVERYTHING,
    UNMARKED,
    Alive,
    Levels,
    Mark,
    alive_from,
    alive_from_words,
    codes_of,
    intersect,
    pieces,
)
from semid.trie.selection import MOST_BEAMS, RankLists, Ranks, Selection, check_n_lists, select
from semid.trie.storage import read_trie, write_trie

__all__ = ["Trie", "select_rows"]


@final
class Trie:
    """All semantic IDs of a catalogue, level by level in flat arrays.

    A node stands for a prefix: a number that means something at its depth only, as `walk` and `select` give it out.
    The root is node 0 at depth 0, the node of a whole ID is its rank, and -1 is no node. The arrays never change: share
    a trie between threads and calls.

    Build one with `from_codes`, `from_sequences` or `SemanticIds.trie`, or read one with `load`.

    Attributes
    ----------
    n_items : int
        Items that can be reached; fewer than `n_ranks` in a view that `restrict` returned.
    n_ranks : int
        Items of the whole trie.
    n_levels : int
    codebook_sizes : tuple of int
        Number of codes of each level.
    fingerprint : str or None
        Of the catalogue that the trie was built by, see `SemanticIds.check_pair`; views and files of the trie keep it.
    generation : int or None
        Of that catalogue. Generation refuses a vocabulary that is tied to another generation.

    Examples
    --------
    >>> import numpy as np
    >>> trie = Trie.from_codes(np.array([[0, 2], [0, 3], [1, 2]], dtype=np.uint8))
    >>> trie
    Trie(n_items=3, n_levels=2, codebook_sizes=(2, 4))
    >>> trie.children((0,))
    array([2, 3], dtype=uint8)
    >>> trie.walk(np.array([[0], [1]])), trie.rank((1, 2)), trie.prefix_range((0,))
    (array([0, 2]), 2, range(0, 2))
    >>> trie.restrict([1, 2]).children((0,))
    array([3], dtype=uint8)
    """

    __slots__ = ("_alive", "_levels", "codebook_sizes", "fingerprint", "generation", "n_items", "n_levels", "n_ranks")

    _levels: Levels
    _alive: Alive
    n_items: int
    n_ranks: int
    n_levels: int
    codebook_sizes: tuple[int, ...]
    fingerprint: str | None
    generation: int | None

    def __init__(
        self,
        levels: Levels,
        codebook_sizes: tuple[int, ...],
        alive: Alive = EVERYTHING,
        mark: Mark = UNMARKED,
    ) -> None:
        # Kernels are compiled per type of array: a view of a mapped file as a plain read-only array is one of two.
        levels = Levels(*(array.view(np.ndarray) for array in levels))
        for array in levels:
            array.setflags(write=False)
        put = object.__setattr__
        put(self, "_levels", levels)
        put(self, "_alive", alive)
        put(self, "codebook_sizes", codebook_sizes)
        put(self, "fingerprint", mark.fingerprint)
        put(self, "generation", mark.generation)
        put(self, "n_levels", len(codebook_sizes))
        put(self, "n_ranks", levels.n_items)
        put(self, "n_items", alive.n_alive() if len(alive.alive) else levels.n_items)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Trie is immutable: {name!r} cannot be set. Build another one with Trie.from_codes.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(
            f"a Trie is immutable: {name!r} cannot be deleted. Build another one with Trie.from_codes."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (tuple(self._levels), self.codebook_sizes, self._alive.alive, tuple(self._mark))

    def __repr__(self) -> str:
        of = f" of {self.n_ranks}" if self.n_items < self.n_ranks else ""
        return f"Trie(n_items={self.n_items}{of}, n_levels={self.n_levels}, codebook_sizes={self.codebook_sizes})"

    def __len__(self) -> int:
        return self.n_items

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """Yield the IDs as tuples, in lexicographic order."""
        for piece in self._pieces():
            yield from map(tuple, piece.tolist())

    def __contains__(self, codes: object) -> bool:
        return bool(np.all(self.rank(codes) >= 0))

    def __eq__(self, other: object) -> bool:
        """Tell whether two tries have the same codebook sizes and reach the same IDs."""
        if not isinstance(other, Trie):
            return NotImplemented
        if self is other:
            return True
        if self.codebook_sizes != other.codebook_sizes or self.n_items != other.n_items:
            return False
        return all((one == two).all() for one, two in zip(self._pieces(), other._pieces(), strict=True))

    def __hash__(self) -> int:
        return hash((self.codebook_sizes, self.n_items))

    # ------------------------------------------------------------------ build, save, load

    @classmethod
    def from_codes(
        cls,
        codes: Any,
        *,
        codebook_sizes: int | Sequence[int] | None = None,
        fingerprint: str | None = None,
        generation: int | None = None,
    ) -> Self:
        """Build a trie from codes in any order.

        Parameters
        ----------
        codes : array-like of shape (n_items, n_levels), integers
            Equal rows become one item, with a `DuplicateCodesWarning`.
        codebook_sizes : int or sequence of int, optional
            Number of codes of all levels or of each; by default the largest code of the level plus one.
        fingerprint : str, optional
            Kept as it is, and `generation` as well; `SemanticIds.trie` passes those of the catalogue.
        generation : int, optional

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If there is no row, or a code is negative or not below its codebook size, or not an integer.
        """
        rows = check_code_rows(codes)
        sizes = sizes_of(rows, codebook_sizes)
        return cls(build_levels(rows, sizes), sizes, mark=Mark(fingerprint, generation))

    @classmethod
    def from_sequences(cls, sequences: Iterable[Sequence[int]], *, end: int) -> Self:
        """Build a trie from IDs of different lengths, such as the tokens of titles.

        Every ID is followed by the end token, up to the last level: so one may be the beginning of another, and
        `children` offers `end` where one is complete. `pad_sequences` makes the rows that `rank` takes.

        Parameters
        ----------
        sequences : iterable of sequences of int
        end : int
            Token that ends an ID; in no sequence.

        Examples
        --------
        >>> trie = Trie.from_sequences([[5, 7], [5]], end=1)
        >>> trie.children((5,)), list(trie)
        (array([1, 7], dtype=uint8), [(5, 1, 1), (5, 7, 1)])
        """
        return cls.from_codes(pad_sequences(sequences, end=end))

    def merge(self, other: "Trie") -> "Trie":
        """Return a trie of the IDs of both, as when items are added; neither changes, so a server goes on meanwhile.

        Ranks are counted anew: those of the merged trie are ``merged.rank(trie.codes_of(ranks))``.

        Parameters
        ----------
        other : Trie
            With as many levels; the larger codebook size of each level holds. IDs of both become one.
        """
        if not isinstance(other, Trie) or other.n_levels != self.n_levels:
            got = f"{other.n_levels} levels" if isinstance(other, Trie) else type(other).__name__
            raise InvalidValueError(f"tries do not merge: expected a Trie of {self.n_levels} levels, got {got}.")
        sizes = tuple(map(max, self.codebook_sizes, other.codebook_sizes))
        return Trie(merge_levels((self._levels, self._alive), (other._levels, other._alive), sizes), sizes)

    def update(
        self, *, added: Any = None, removed: Any = None, fingerprint: str | None = None, generation: int | None = None
    ) -> "Trie":
        """Return the trie after items came and went, as a new build of all IDs would give it; this one stays.

        A server goes on with the old trie while this runs, and takes the new one for the requests that follow. Ranks
        are counted anew: those of items that stay are ``new.rank(old.codes_of(ranks))``. A restriction is carried over:
        items that stay keep their state, new ones can be reached.

        Parameters
        ----------
        added : array-like of shape (n, n_levels), integers, optional
            Codes of new items.
        removed : array-like of shape (n, n_levels), integers, optional
            Codes of items that are gone; they may be added again in the same call.
        fingerprint : str, optional
            Of the catalogue after the change, ``sids.trie_fingerprint(view)``, and `generation` as well.
        generation : int, optional

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If codes to remove are unknown, codes to add are taken or out of range, or nothing would be left.

        Examples
        --------
        >>> trie = Trie.from_codes([[0, 2], [0, 3], [1, 2]])
        >>> list(trie.update(added=[[1, 0]], removed=[[0, 3]]))
        [(0, 2), (1, 0), (1, 2)]
        """
        levels, alive = update_levels(self._levels, self._alive, self.codebook_sizes, added=added, removed=removed)
        return Trie(levels, self.codebook_sizes, alive, Mark(fingerprint, generation))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trie to one safetensors file, whole or not at all; a restriction is kept."""
        write_trie(path, self._levels, self.codebook_sizes, self._alive.alive, mark=self._mark)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False, verify: bool | None = None) -> Self:
        """Read a trie from a file that `save` wrote.

        Parameters
        ----------
        path : path-like
        mmap : bool, default=False
            Map the file instead of reading it: opening takes milliseconds and processes share the pages.
        verify : bool, optional
            Read all once and check it, value by value and against the checksum. Default: unless the file is mapped.
            False skips the check: a corrupt or malicious file can then cause out-of-bounds reads.

        Raises
        ------
        FormatError
            If the file is missing, truncated, damaged, or holds something else.
        """
        levels, sizes, alive, mark = read_trie(path, mmap=mmap, verify=not mmap if verify is None else verify)
        return cls(levels, sizes, alive_from_words(alive), mark)

    # ------------------------------------------------------------------ ask

    def children(self, prefix: Sequence[int] | IntArray) -> CodeArray:
        """Return the codes that may follow a prefix, sorted; none when no item starts so.

        Parameters
        ----------
        prefix : sequence of int
            At most `n_levels` codes; () for the root.
        """
        prefix = _prefix(prefix)
        node = self.walk(prefix[None])
        if len(prefix) == self.n_levels:
            return np.empty(0, self._levels.child_codes.dtype)
        return self.allowed(node, depth=len(prefix))[1]

    def walk(self, prefixes: Any) -> IntArray:
        """Return the nodes that prefixes lead to.

        Parameters
        ----------
        prefixes : array-like of shape (..., depth), integers
            ``0 <= depth <= n_levels``; any integer is allowed as a code.

        Returns
        -------
        nodes : ndarray of shape (...), dtype int64
            -1 where no item starts with the prefix. At full depth a node is the rank of the item.
        """
        return self._walk(prefixes, self._alive)

    def _walk(self, prefixes: Any, alive: Alive) -> IntArray:
        rows, shape = check_prefixes(prefixes, n_levels=self.n_levels)
        out = np.empty(len(rows), np.int64)
        kernel("walk")(*self._levels, *alive, rows, out)
        return out.reshape(shape)

    def rank(self, codes: Any) -> Any:
        """Return the lexicographic position of whole IDs: an int for one row, an array for many; -1 if unknown."""
        codes = as_array(codes, "codes")
        if codes.ndim == 0 or codes.shape[-1] != self.n_levels:
            raise InvalidValueError(
                f"codes have a wrong length: expected {self.n_levels} levels, got shape {codes.shape}. "
                "Use walk for prefixes."
            )
        ranks = self.walk(codes)
        return int(ranks) if codes.ndim == 1 else ranks

    def codes_of(self, ranks: Any) -> CodeArray:
        """Return the codes of items by rank, whether a restriction lets them be reached or not.

        Parameters
        ----------
        ranks : array-like of shape (...), integers in 0 .. n_ranks - 1

        Returns
        -------
        codes : ndarray of shape (..., n_levels), unsigned
        """
        return codes_of(self._levels, check_ranks(ranks, n_items=self.n_ranks))

    def prefix_range(self, prefix: Sequence[int] | IntArray) -> range:
        """Return the ranks below a prefix, which follow each other; those that a restriction removes are among them.

        Parameters
        ----------
        prefix : sequence of int
            At most `n_levels` codes; one that no item starts with has an empty range.
        """
        prefix = _prefix(prefix)
        low, high = self.node_ranges(self._walk(prefix[None], EVERYTHING), depth=len(prefix))[0].tolist()
        return range(low, high)

    def node_ranges(self, nodes: Any, *, depth: int) -> IntArray:
        """Return the first rank below each node and the one behind the last, shape (rows, 2); 0, 0 for node -1.

        Parameters
        ----------
        nodes : array-like of shape (rows,), integers
        depth : int
            ``0 <= depth <= n_levels``.
        """
        depth = check_integer(depth, "depth")
        if depth != self.n_levels:
            check_depth(depth, n_levels=self.n_levels)
        nodes = check_nodes(nodes, depth=depth, n_nodes=self._levels.n_nodes(depth))
        out = np.empty((len(nodes), 2), np.int64)
        kernel("ranges")(*self._levels, *self._alive, depth, nodes, out)
        return out

    def allowed(self, nodes: Any, *, depth: int) -> tuple[IntArray, CodeArray]:
        """Return the children of many nodes at once.

        Parameters
        ----------
        nodes : array-like of shape (rows,), integers
            Nodes at `depth`; -1 has no children.
        depth : int
            ``0 <= depth < n_levels``.

        Returns
        -------
        row_starts : ndarray of shape (rows + 1,), dtype int64
        codes : ndarray of shape (n_children,), unsigned
            Row r may go on with ``codes[row_starts[r] : row_starts[r + 1]]``.
        """
        depth = check_depth(depth, n_levels=self.n_levels)
        nodes = check_nodes(nodes, depth=depth, n_nodes=self._levels.n_nodes(depth))
        row_starts = np.empty(len(nodes) + 1, np.int64)
        most = min(self.codebook_sizes[depth], self.n_ranks)  # children of a node
        room = np.empty(most, self._levels.child_codes.dtype)
        kernel("count_children")(*self._levels, *self._alive, depth, nodes, room, row_starts)
        codes = np.empty(row_starts[-1], self._levels.child_codes.dtype)
        kernel("gather_children")(*self._levels, *self._alive, depth, nodes, row_starts, codes)
        return row_starts, codes

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays; those of a view count the arrays that it shares."""
        return sum(array.nbytes for array in (*self._levels, *self._alive))

    def restrict(self, mask_or_ranks: Any) -> "Trie":
        """Return a view that reaches only some items: what is in stock, of a category, of a tenant.

        It shares this trie's arrays and keeps its ranks, answers the same questions, and may be restricted further.
        Making one takes a pass over the mask; no prefix without a reachable item is ever offered.

        Parameters
        ----------
        mask_or_ranks : array-like of shape (n_ranks,), bool, or of shape (n,), integers
            Which ranks may be reached, or their list in any order. With an empty list, the view reaches nothing.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If a mask has another length or a rank is out of range; if there are as many integers as items, and some are
            equal: a mask of zeros and ones would be read as ranks.
        """
        mask = check_restriction(mask_or_ranks, n_items=self.n_ranks)
        alive = intersect(self._alive, alive_from(mask))
        return Trie(self._levels, self.codebook_sizes, alive, self._mark)

    def ranks(self) -> IntArray:
        """Return the ranks that can be reached, shape (n_items,), dtype int64."""
        return np.flatnonzero(self._alive.mask(self.n_ranks))

    # ------------------------------------------------------------------ decode

    def mask_inplace(
        self,
        scores: Array,
        nodes: Any,
        *,
        depth: int,
        tokens: Any,
        lost_token: int | None = None,
        neg_inf: float = -np.inf,
    ) -> BoolArray:
        """Overwrite with minus infinity every score that does not lead to an item.

        Parameters
        ----------
        scores : ndarray of shape (rows, vocabulary), float16, float32 or float64 in C order
            Changed in place. A type that NumPy lacks, such as bfloat16, comes as a view of integers, with its bits of
            minus infinity as `neg_inf`.
        nodes : array-like of shape (rows,), integers
            Nodes at `depth`; a row of node -1 loses all its scores, or all but one.
        depth : int
        tokens : array-like of shape (codebook_size,), integers
            Column of `scores` for each code of the level `depth`.
        lost_token : int, optional
            Column whose score a row of node -1 keeps, such as that of the end token.
        neg_inf : number, default=-inf

        Returns
        -------
        empty : ndarray of shape (rows,), dtype bool
            True for a row whose scores are all minus infinity now: one of node -1, or one whose children had no other
            score. Sampling has nothing to draw from it.
        """
        depth = check_depth(depth, n_levels=self.n_levels)
        return masking.mask_inplace(
            self._levels, self._alive, scores, nodes, depth=depth, size=self.codebook_sizes[depth], tokens=tokens,
            lost_token=lost_token, neg_inf=neg_inf,
        )  # fmt: skip

    def fill_bitmask(self, bitmask: npt.NDArray[np.int32], nodes: Any, *, depth: int, tokens: Any) -> None:
        """Write which tokens may follow each node as bits, in the layout that grammar engines share.

        Parameters
        ----------
        bitmask : ndarray of shape (rows, words), dtype int32, C order
            Overwritten. Bit ``token % 32`` of word ``token // 32`` is set where the token leads to an item, as xgrammar
            and llguidance have it; ``words`` is at least a 32nd of the vocabulary.
        nodes : array-like of shape (rows,), integers
            Nodes at `depth`; no bit is set in a row of node -1.
        depth : int
        tokens : array-like of shape (codebook_size,), integers
            Token of each code of the level `depth`.
        """
        depth = check_depth(depth, n_levels=self.n_levels)
        masking.fill_bitmask(
            self._levels, self._alive, bitmask, nodes, depth=depth, size=self.codebook_sizes[depth], tokens=tokens
        )

    def select(
        self,
        log_probs: Any,
        start: Any,
        nodes: Any,
        *,
        depth: int,
        k: int,
        exclude: Ranks = None,
        candidates: Ranks = None,
    ) -> Selection:
        """Keep the `k` best continuations over all beams of each request: one step of a beam search.

        Parameters
        ----------
        log_probs : array-like of shape (batch, beams, codebook_size), dtype float32
            Score of each code of level `depth`; only those of children count. A child whose score is minus infinity or
            not a number is never kept.
        start : array-like of shape (batch, beams), dtype float32
            Running scores.
        nodes : array-like of shape (batch, beams), integers
            From `walk` or the last `select`; -1 is a dead beam.
        depth : int
            Depth of `nodes`; ``0 <= depth < n_levels``.
        k : int
            Beams to keep.
        exclude : sequence of batch sequences of int, or RankLists, optional
            Ranks that each request must not reach; a child goes when all items below it are excluded.
        candidates : sequence of batch sequences of int or None, or RankLists, optional
            The only ranks that each request may reach; None for a request that may reach all.

        Returns
        -------
        Selection
            ``scores, rows, codes, nodes``; ties go to the lower beam, then to the lower code.
        """
        depth = check_depth(depth, n_levels=self.n_levels)
        return select(
            self._levels, self._alive, log_probs, start, nodes, depth=depth, size=self.codebook_sizes[depth], k=k,
            exclude=exclude, candidates=candidates,
        )  # fmt: skip

    def rank_lists(self, lists: Any) -> RankLists:
        """Check and sort ranks per request once, for `exclude` or `candidates` of the steps that follow."""
        return RankLists.check(lists, n_items=self.n_ranks, name="lists")

    # ------------------------------------------------------------------ inside

    @property
    def _mark(self) -> Mark:
        return Mark(self.fingerprint, self.generation)

    def _pieces(self) -> Iterator[CodeArray]:
        return pieces(self._levels, self._alive)


def _restore(levels: tuple[Any, ...], codebook_sizes: tuple[int, ...], alive: IntArray, mark: tuple[Any, ...]) -> Trie:
    return Trie(Levels(*levels), codebook_sizes, alive_from_words(alive), Mark(*mark))


def _prefix(codes: Any) -> IntArray:
    """Return one prefix as an array; an empty list has the dtype float64, and is a prefix nevertheless."""
    prefix = as_array(codes, "prefix")
    if prefix.ndim != 1:
        raise InvalidValueError(
            f"prefix has a wrong shape: expected a sequence of codes, got {codes!r}. Write (0,) for the code 0; "
            "walk and allowed take many prefixes."
        )
    return prefix if prefix.size else np.empty(prefix.shape, np.int64)


def select_rows(
    tries: Sequence[Trie],
    log_probs: Any,
    start: Any,
    nodes: Any,
    *,
    depth: int,
    k: int,
    exclude: Ranks = None,
    candidates: Ranks = None,
) -> Selection:
    """Do one step of a beam search where each request has a trie of its own, as search and recommendation have.

    Parameters
    ----------
    tries : sequence of batch Trie
        Requests that name the same object are done together.
    log_probs : array-like of shape (batch, beams, width), dtype float32
        `width` is at least the codebook size of level `depth` of each trie; what exceeds it is not looked at.
    start, nodes, depth, k, exclude, candidates
        As in `Trie.select`; nodes and ranks are those of each request's own trie.

    Returns
    -------
    Selection
        As the requests would give one by one.
    """
    if not isinstance(tries, Sequence) or not all(isinstance(trie, Trie) for trie in tries):
        raise InvalidTypeError(
            f"tries have a wrong type: expected a sequence of semid.Trie, got {type(tries).__name__} of "
            f"{sorted({type(one).__name__ for one in tries}) if isinstance(tries, Sequence) else 'something else'}. "
            "Give one per request."
        )
    log_probs, start = plain_floats(log_probs, name="log_probs"), plain_floats(start, name="start")
    nodes = plain_int64(nodes, name="nodes", remedy=FROM_WALK)
    batch, k = len(tries), check_count(k, "k", most=MOST_BEAMS)
    for name, array, ndim in (("log_probs", log_probs, 3), ("start", start, 2), ("nodes", nodes, 2)):
        if array.ndim != ndim or len(array) != batch:
            raise InvalidValueError(
                f"{name} has a wrong shape: expected {ndim} axes, {batch} requests, got {array.shape}. "
                "Give one row per trie."
            )
    for name, lists in (("exclude", exclude), ("candidates", candidates)):
        if lists is not None:
            check_n_lists(lists, batch=batch, name=name)
    groups: dict[int, list[int]] = {}
    for row, trie in enumerate(tries):
        groups.setdefault(id(trie), []).append(row)

    def step(trie: Trie, rows: slice | list[int], exclude: Ranks, candidates: Ranks) -> Selection:
        size = trie.codebook_sizes[check_depth(depth, n_levels=trie.n_levels)]
        return trie.select(
            log_probs[rows, :, :size], start[rows], nodes[rows], depth=depth, k=k, exclude=exclude,
            candidates=candidates,
        )  # fmt: skip

    if len(groups) == 1:  # nothing to take apart
        return step(tries[0], slice(None), exclude, candidates)
    out = Selection.empty(batch, k)
    for rows in groups.values():
        part = step(tries[rows[0]], rows, _lists_of(exclude, rows), _lists_of(candidates, rows))
        for whole, piece in zip(out, part, strict=True):
            whole[rows] = piece
    return out


def _lists_of(lists: Ranks, rows: list[int]) -> Ranks:
    """Return the lists of some requests."""
    if lists is None:
        return None
    return lists.take(np.array(rows)) if isinstance(lists, RankLists) else [lists[row] for row in rows]
