"""The trie over semantic IDs: an immutable index, asked by prefix, by node, and one beam step at a time."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self, final

import numpy as np
import numpy.typing as npt

from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.io.persistence import FORMAT_VERSION, read_tensors, write_tensors
from semid.kernels import kernel
from semid.trie.build import Levels, build_levels
from semid.trie.checks import check_code_rows, check_depth, check_exclude, check_nodes, check_sizes

__all__ = ["Selection", "Trie"]

CodeArray = npt.NDArray[np.unsignedinteger[Any]]
IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float32]


class Selection(NamedTuple):
    """What one step of a beam search keeps: four arrays of shape (batch, k), best first.

    Attributes
    ----------
    scores : ndarray, dtype float32
        Running scores; -inf in slots that could not be filled.
    rows : ndarray, dtype int64
        The beam of the step before that each slot extends; -1 in empty slots.
    codes : ndarray, dtype int64
        The code it was extended by; -1 in empty slots.
    nodes : ndarray, dtype int64
        The node it has reached; -1 in empty slots.
    """

    scores: FloatArray
    rows: IntArray
    codes: IntArray
    nodes: IntArray


@final
class Trie:
    """All semantic IDs of a catalogue, level by level in flat arrays.

    A node is the number of a prefix among the prefixes of its length, in lexicographic order; so the root is node 0 at
    depth 0, and the node of a whole ID is its rank. The arrays never change: share a trie between threads and calls.

    Build one with `from_codes` or `SemanticIds.trie`, or read one with `load`.

    Attributes
    ----------
    n_items, n_levels : int
    codebook_sizes : tuple of int
        Number of codes of each level.
    fingerprint : str or None
        Of the catalogue that the trie was built by, see `SemanticIds.check_pair`; saved and loaded with the trie.

    Examples
    --------
    >>> import numpy as np
    >>> trie = Trie.from_codes(np.array([[0, 2], [0, 3], [1, 2]], dtype=np.uint8))
    >>> trie
    Trie(n_items=3, n_levels=2, codebook_sizes=(2, 4), nbytes=65)
    >>> trie.children((0,))
    array([2, 3], dtype=uint8)
    >>> trie.walk(np.array([[0], [1]])), trie.rank((1, 2))
    (array([0, 1]), 2)
    """

    __slots__ = ("_levels", "codebook_sizes", "fingerprint", "n_items", "n_levels")

    _levels: Levels
    n_items: int
    n_levels: int
    codebook_sizes: tuple[int, ...]
    fingerprint: str | None

    def __init__(self, levels: Levels, codebook_sizes: tuple[int, ...], *, fingerprint: str | None = None) -> None:
        for array in levels:
            array.setflags(write=False)
        put = object.__setattr__
        put(self, "_levels", levels)
        put(self, "codebook_sizes", codebook_sizes)
        put(self, "fingerprint", fingerprint)
        put(self, "n_levels", len(codebook_sizes))
        put(self, "n_items", int(levels.code_offsets[-1] - levels.code_offsets[-2]))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Trie is immutable: {name!r} cannot be set. Build another one with Trie.from_codes.")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (tuple(np.asarray(array) for array in self._levels), self.codebook_sizes, self.fingerprint)

    def __repr__(self) -> str:
        return (
            f"Trie(n_items={self.n_items}, n_levels={self.n_levels}, codebook_sizes={self.codebook_sizes}, "
            f"nbytes={self.nbytes})"
        )

    def __len__(self) -> int:
        return self.n_items

    # ------------------------------------------------------------------ build, save, load

    @classmethod
    def from_codes(
        cls, codes: Any, *, codebook_sizes: Sequence[int] | None = None, fingerprint: str | None = None
    ) -> Self:
        """Build a trie from codes in any order.

        Parameters
        ----------
        codes : array-like of shape (n_items, n_levels), integers
            Equal rows become one item, with a `DuplicateCodesWarning`.
        codebook_sizes : sequence of int, optional
            Number of codes of each level; by default the largest code of the level plus one.
        fingerprint : str, optional
            Kept as it is.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If there is no row, or a code is negative or not below its codebook size, or not an integer.
        """
        rows = check_code_rows(codes)
        sizes = check_sizes(rows, codebook_sizes)
        return cls(build_levels(rows, sizes), sizes, fingerprint=fingerprint)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trie to one safetensors file, whole or not at all."""
        head = {"class": "Trie", "format_version": str(FORMAT_VERSION)}
        if self.fingerprint is not None:
            head["fingerprint"] = self.fingerprint
        sizes = np.asarray(self.codebook_sizes, np.int64)
        write_tensors(path, self._levels._asdict() | {"codebook_sizes": sizes}, metadata=head)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Self:
        """Read a trie from a file that `save` wrote.

        Parameters
        ----------
        path : path-like
        mmap : bool, default=False
            Map the file instead of reading it: opening takes milliseconds and processes share the pages.

        Raises
        ------
        FormatError
            If the file is missing, damaged, or holds something else.
        """
        arrays, head = read_tensors(path, mmap=mmap)
        if head.get("class") != "Trie" or head.get("format_version") != str(FORMAT_VERSION):
            raise FormatError(
                f"{path} is not a trie of this format: expected class Trie, format {FORMAT_VERSION}, got "
                f"{head.get('class')}, format {head.get('format_version')}. Save it with Trie.save."
            )
        try:
            levels = Levels(*(arrays[name] for name in Levels._fields))
            sizes = tuple(arrays["codebook_sizes"].tolist())
        except KeyError as error:
            raise FormatError(
                f"{path} is damaged: expected an array {error}, got none. Save the trie again."
            ) from error
        return cls(levels, sizes, fingerprint=head.get("fingerprint"))

    # ------------------------------------------------------------------ ask

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._levels)

    def children(self, prefix: Sequence[int] | IntArray) -> CodeArray:
        """Return the codes that may follow a prefix, sorted; none when no item starts so.

        Parameters
        ----------
        prefix : sequence of int
            Fewer than `n_levels` codes; () for the root.
        """
        prefix = np.atleast_1d(np.asarray(prefix, np.int64 if len(prefix) == 0 else None))
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
        prefixes = np.asarray(prefixes)
        if prefixes.ndim == 0 or prefixes.shape[-1] > self.n_levels:
            raise InvalidValueError(
                f"prefixes have a wrong shape: expected (..., at most {self.n_levels}), got {prefixes.shape}. "
                "A prefix is no longer than an ID."
            )
        if not np.issubdtype(prefixes.dtype, np.integer) and prefixes.shape[-1] > 0:
            raise InvalidTypeError(
                f"prefixes have a wrong dtype: expected integers, got {prefixes.dtype}. Convert them explicitly."
            )
        rows = np.ascontiguousarray(prefixes.reshape(-1, prefixes.shape[-1]) if prefixes.shape[-1] else
                                    np.empty((int(np.prod(prefixes.shape[:-1])), 0)), np.int64)  # fmt: skip
        out = np.empty(len(rows), np.int64)
        kernel("walk")(*self._levels, rows, out)
        return out.reshape(prefixes.shape[:-1])

    def rank(self, codes: Any) -> Any:
        """Return the lexicographic position of whole IDs: an int for one row, an array for many; -1 if unknown."""
        codes = np.asarray(codes)
        if codes.ndim == 0 or codes.shape[-1] != self.n_levels:
            raise InvalidValueError(
                f"codes have a wrong length: expected {self.n_levels} levels, got shape {codes.shape}. "
                "Use walk for prefixes."
            )
        ranks = self.walk(codes)
        return int(ranks) if codes.ndim == 1 else ranks

    def codes_of(self, ranks: Any) -> CodeArray:
        """Return the codes of items by rank.

        Parameters
        ----------
        ranks : array-like of shape (...), integers in 0 .. n_items - 1

        Returns
        -------
        codes : ndarray of shape (..., n_levels), unsigned
        """
        ranks = np.asarray(ranks)
        if ranks.size and not np.issubdtype(ranks.dtype, np.integer):
            raise InvalidTypeError(f"ranks have a wrong dtype: expected integers, got {ranks.dtype}. Convert them.")
        if ranks.size and (ranks.min() < 0 or ranks.max() >= self.n_items):
            wrong = ranks[(ranks < 0) | (ranks >= self.n_items)].flat[0]
            raise InvalidValueError(f"rank out of range: expected 0 .. {self.n_items - 1}, got {wrong}.")
        codes = np.empty((*ranks.shape, self.n_levels), self._levels.child_codes.dtype)
        node = ranks.astype(np.int64)
        for depth in range(self.n_levels - 1, -1, -1):
            starts, child_codes = self._level(depth)
            codes[..., depth] = child_codes[node]
            node = np.searchsorted(starts, node, side="right") - 1  # the parent owns the slice around it
        return codes

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
        nodes = self._check(nodes, depth)
        starts, child_codes = self._level(depth)
        n_children = np.where(nodes >= 0, starts[nodes + 1].astype(np.int64) - starts[nodes], 0)
        row_starts = np.concatenate([[0], np.cumsum(n_children)])
        codes = np.empty(row_starts[-1], child_codes.dtype)
        kernel("gather_children")(starts, child_codes, nodes, row_starts, codes)
        return row_starts, codes

    def widest(self, depth: int) -> int:
        """Return the largest number of children that a node at `depth` has."""
        return int(np.diff(self._level(depth)[0]).max())

    # ------------------------------------------------------------------ decode

    def mask_inplace(
        self, scores: npt.NDArray[Any], nodes: Any, *, depth: int, tokens: Any, neg_inf: float = -np.inf
    ) -> None:
        """Overwrite with minus infinity every score that does not lead to an item.

        Parameters
        ----------
        scores : ndarray of shape (rows, vocabulary), C order
            Changed in place. Half types come as an unsigned view, with `neg_inf` as the bit pattern.
        nodes : array-like of shape (rows,), integers
            Nodes at `depth`; a row of node -1 loses all its scores.
        depth : int
        tokens : array-like of shape (codebook_size,), integers
            Column of `scores` for each code of the level `depth`.
        neg_inf : number, default=-inf
        """
        nodes = self._check(nodes, depth)
        tokens = np.ascontiguousarray(tokens, np.int64)
        if scores.ndim != 2 or len(scores) != len(nodes):
            raise InvalidValueError(
                f"scores have a wrong shape: expected ({len(nodes)}, vocabulary), got {scores.shape}. "
                "Pass one row of scores per node."
            )
        if tokens.shape != (self.codebook_sizes[depth],) or tokens.min() < 0 or tokens.max() >= scores.shape[1]:
            raise InvalidValueError(
                f"tokens do not fit: expected {self.codebook_sizes[depth]} columns below {scores.shape[1]}, got shape "
                f"{tokens.shape} with largest {tokens.max(initial=-1)}. Has the model been resized for the vocabulary?"
            )
        kept = np.empty(self.widest(depth), scores.dtype)
        kernel("mask_rows")(*self._level(depth), nodes, tokens, scores.dtype.type(neg_inf), scores, kept)

    def select(
        self,
        log_probs: Any,
        start: Any,
        nodes: Any,
        *,
        depth: int,
        k: int,
        exclude: Sequence[Iterable[int]] | None = None,
    ) -> Selection:
        """Keep the `k` best continuations over all beams of each request: one step of a beam search.

        Parameters
        ----------
        log_probs : array-like of shape (batch, beams, codebook_size), dtype float32
            Score of each code of level `depth`; only those of children count.
        start : array-like of shape (batch, beams), dtype float32
            Running scores.
        nodes : array-like of shape (batch, beams), integers
            From `walk` or the last `select`; -1 is a dead beam.
        depth : int
            Depth of `nodes`; ``0 <= depth < n_levels``.
        k : int
            Beams to keep.
        exclude : sequence of batch sequences of int, optional
            Ranks that each request must not reach; a child goes when all items below it are excluded.

        Returns
        -------
        Selection
            ``scores, rows, codes, nodes``; ties go to the lower beam, then to the lower code.
        """
        log_probs = np.ascontiguousarray(log_probs, np.float32)
        start = np.ascontiguousarray(start, np.float32)
        shaped = np.asarray(nodes)
        nodes = self._check(shaped.reshape(-1), depth).reshape(shaped.shape)
        size = self.codebook_sizes[depth]
        if log_probs.ndim != 3 or log_probs.shape[2] != size or nodes.shape != log_probs.shape[:2]:
            raise InvalidValueError(
                f"log_probs and nodes disagree: expected (batch, beams, {size}) and (batch, beams), got "
                f"{log_probs.shape} and {nodes.shape}. log_probs holds the {size} codes of level {depth} alone."
            )
        if start.shape != nodes.shape:
            raise InvalidValueError(
                f"start has a wrong shape: expected {nodes.shape}, got {start.shape}. Give one score per beam."
            )
        if k < 1:
            raise InvalidValueError(f"k is too small: expected at least 1, got {k}.")
        excluded, exclude_starts = check_exclude(exclude, batch=len(log_probs), n_items=self.n_items)
        out = Selection(np.empty((len(log_probs), k), np.float32), *(
            np.empty((len(log_probs), k), np.int64) for _ in range(3)
        ))  # fmt: skip
        kernel("select")(*self._levels, depth, log_probs, start, nodes, excluded, exclude_starts, *out)
        return out

    # ------------------------------------------------------------------ inside

    def _check(self, nodes: Any, depth: int) -> IntArray:
        check_depth(depth, n_levels=self.n_levels)
        return check_nodes(nodes, depth=depth, n_nodes=len(self._level(depth)[0]) - 1)

    def _level(self, depth: int) -> tuple[IntArray, CodeArray]:
        levels = self._levels
        first, last = levels.code_offsets[depth], levels.code_offsets[depth + 1]
        n_nodes = 1 if depth == 0 else first - levels.code_offsets[depth - 1]
        begin = levels.start_offsets[depth]
        return levels.starts[begin : begin + n_nodes + 1], levels.child_codes[first:last]


def _restore(levels: tuple[Any, ...], codebook_sizes: tuple[int, ...], fingerprint: str | None) -> Trie:
    return Trie(Levels(*levels), codebook_sizes, fingerprint=fingerprint)
