"""A catalogue of semantic IDs: item id <-> codes <-> rank, for one view or several."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, final

import numpy as np

from semid._arrays import CodeArray
from semid._checks import as_ids, check_errors, check_ranks, shown
from semid.catalog import pairing, quantized, saving, tables
from semid.catalog.contents import Contents, make_contents
from semid.catalog.fingerprint import fingerprint
from semid.catalog.messages import title
from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.trie import Trie

__all__ = ["SemanticIds"]


@final
class SemanticIds:
    """Items with one semantic ID each, or one per view.

    A catalogue can change: `add` and `remove` work in place, whole or not at all, and count up `generation`. What it
    has given out does not change: codes are copies, a `Trie` stays that of its generation. IDs of items that stay are
    bit-identical afterwards. Save it with `save_pretrained`; `to_parquet` writes a table for other tools.

    Parameters
    ----------
    item_ids : sequence of int or of str, length n_items
        The caller's own keys, each once.
    codes : array-like of shape (n_items, n_levels), integers; or mapping of view to such
        One row per item, no two alike within a view.
    codebook_sizes : sequence of int, or mapping of view to such, optional
        Number of codes of each level, of all views alike or of each; default: the largest code plus one. Give it if
        items may be added later.

    Attributes
    ----------
    views : tuple of str
        Empty for codes without views.
    generation : int
        How often the catalogue has changed since it was first made; saved and loaded with it.
    last_reuse : int
        Generation in which an ID of a removed item was last given to another; 0 if never.
    nbytes : int
        Bytes of ids, codes and their orders; tries not counted, which `Trie.nbytes` tells.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If ids repeat or mix types, if rows of codes are alike, out of range, or not as many as ids.

    Examples
    --------
    >>> sids = SemanticIds(["ring", "bell", "book"], [[1, 2], [0, 3], [0, 2]])
    >>> sids
    SemanticIds(n_items=3, codebook_sizes=(2, 4), generation=0, item_ids='ring', 'bell', 'book')
    >>> sids.codes_of(["book", "ring"])
    array([[0, 2],
           [1, 2]], dtype=uint8)
    >>> sids.items_of([[0, 3], [1, 3]])
    ['bell', None]
    >>> sids.items_at(sids.trie().walk([[0, 2]]))
    ['book']
    >>> "bell" in sids, len(sids), list(sids[1:])
    (True, 3, ['bell', 'book'])
    """

    def __init__(self, item_ids: Iterable[Any], codes: Any, *, codebook_sizes: Any = None) -> None:
        self._contents = make_contents(item_ids, codes, codebook_sizes)
        self._history = dict[int, str]()

    def __copy__(self) -> Self:
        """Return a catalogue of the same items that changes on its own; contents never change, so they are shared."""
        twin = type(self).__new__(type(self))
        twin._contents, twin._history = self._contents, dict(self._history)
        return twin

    def __repr__(self) -> str:
        retired = max(map(len, self._contents.retired.values()))
        ids = ", ".join(map(repr, self._contents.keys.at(np.arange(min(3, len(self))))))
        return (
            f"SemanticIds(n_items={len(self)}, codebook_sizes={self.codebook_sizes}, generation={self.generation}, "
            f"{f'n_retired={retired}, ' if retired else ''}item_ids={ids}{', ..' if len(self) > 3 else ''})"
        )

    def __len__(self) -> int:
        return len(self._contents.keys)

    def __contains__(self, item_id: object) -> bool:
        return bool(self._contents.keys.find([item_id])[0] >= 0)

    def __iter__(self) -> Iterator[Any]:
        # By blocks, so that a million ids are never a million objects at once.
        keys = self._contents.keys
        for first in range(0, len(keys), tables.BLOCK_ROWS):
            yield from keys.at(np.arange(first, min(first + tables.BLOCK_ROWS, len(keys))))

    def __getitem__(self, positions: slice) -> Self:
        """Return some of the items, by position, as a catalogue of their own: generation 0, nothing retired."""
        if not isinstance(positions, slice):
            raise InvalidTypeError(
                f"a position has a wrong type: expected a slice, got {positions!r}. Use codes_of for the codes of an "
                "item, items_at for the item of a rank."
            )
        contents = self._contents
        chosen = np.arange(len(contents.keys))[positions]
        if len(chosen) == 0:
            raise InvalidValueError(
                f"the slice is empty: expected positions in 0 .. {len(self) - 1}, got {positions}. A catalogue has "
                "at least one item."
            )
        codes = {view: rows[chosen] for view, rows in contents.codes.items()}
        return type(self)(contents.keys.at(chosen), self._like_given(codes), codebook_sizes=self.codebook_sizes)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views; empty for codes without views."""
        return tuple(view for view in self._contents.codes if view is not None)

    @property
    def n_levels(self) -> Any:
        """Number of levels: an int, or a dict from view to int."""
        return self._like_given({view: len(sizes) for view, sizes in self._contents.codebook_sizes.items()})

    @property
    def codebook_sizes(self) -> Any:
        """Number of codes of each level: a tuple, or a dict from view to tuple."""
        return self._like_given(self._contents.codebook_sizes)

    @property
    def generation(self) -> int:
        """How often the catalogue has changed since it was first made."""
        return self._contents.generation

    @property
    def last_reuse(self) -> int:
        """Generation in which an ID of a removed item was last given to another; 0 if never."""
        return self._contents.last_reuse

    @property
    def nbytes(self) -> int:
        """Bytes of ids, codes and their orders."""
        return self._contents.nbytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ids, codes and codebook sizes, in hexadecimal; the order of the items does not matter."""
        return self._fingerprint_of(self._contents)

    @property
    def history(self) -> dict[int, str]:
        """Fingerprint of each generation in which it was asked for: by a trie, a signature, a saved folder."""
        return dict(self._history)

    def codes_of(self, item_ids: Any, view: str | None = None, *, errors: str = "raise") -> Any:
        """Return the codes of items.

        Parameters
        ----------
        item_ids : sequence of n ids, or one id
        view : str, optional
            Required when there are several views.
        errors : {"raise", "ignore"}, default="raise"
            For unknown ids: raise, or return rows of -1 (the dtype is then int64).

        Returns
        -------
        codes : ndarray of shape (n, n_levels) or (n_levels,), unsigned
        """
        contents = self._contents
        codes = contents.codes[self._view(view)]
        positions = self._positions(contents, item_ids, errors)
        if errors == "raise":
            return codes[positions]
        return np.where((positions >= 0)[..., None], codes[positions].astype(np.int64), -1)

    def ranks_of(self, item_ids: Any, view: str | None = None, *, errors: str = "raise") -> Any:
        """Return the ranks of items in the trie of a view, as `semid.generate` takes them in `exclude`.

        Parameters
        ----------
        item_ids : sequence of n ids, or one id
        view : str, optional
        errors : {"raise", "ignore"}, default="raise"
            For unknown ids: raise, or return -1.

        Returns
        -------
        ranks : ndarray of shape (n,), dtype int64; an int for one id
        """
        contents, view = self._contents, self._view(view)
        positions = self._positions(contents, item_ids, errors)
        ranks = np.where(positions >= 0, self._trie_of(contents, view).rank(contents.codes[view][positions]), -1)
        return int(ranks) if ranks.ndim == 0 else ranks

    def items_of(self, codes: Any, view: str | None = None) -> Any:
        """Return the item ids that codes belong to.

        Parameters
        ----------
        codes : array-like of shape (..., n_levels), integers
        view : str, optional

        Returns
        -------
        item_ids : list
            Nested as `codes` is, None for codes that are no item's; one id for a single row.
        """
        contents, view = self._contents, self._view(view)
        return self._items_at(contents, self._trie_of(contents, view).rank(codes), view)

    def items_at(self, ranks: Any, view: str | None = None) -> Any:
        """Return the item ids at ranks in the trie of a view, such as ``generate(...).items``.

        Parameters
        ----------
        ranks : array-like of shape (...), integers
            -1 marks an empty slot.
        view : str, optional

        Returns
        -------
        item_ids : list
            Nested as `ranks` is, None for -1; one id for a single rank.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If a rank is below -1, not below n_items, or no integer.
        """
        return self._items_at(self._contents, ranks, self._view(view))

    def trie(self, view: str | None = None) -> Trie:
        """Return the trie of a view, which bears the mark of this generation; built anew after a change."""
        return self._trie_of(self._contents, self._view(view))

    def trie_fingerprint(self, view: str | None = None) -> str:
        """Return the fingerprint of a view's trie: that of the catalogue, and the name of the view if it has one."""
        return named(self.fingerprint, self._view(view))

    def taken(self, view: str | None = None, *, retired: bool = True) -> CodeArray:
        """Return the codes of all items in their order, then those of removed items, shape (n, n_levels)."""
        contents, view = self._contents, self._view(view)
        codes = contents.codes[view]
        return np.concatenate([codes, contents.retired[view]]) if retired else codes.copy()

    def add(
        self,
        item_ids: Iterable[Any],
        codes: Any = None,
        *,
        quantizer: Any = None,
        X: Any = None,
        weights: Any = None,
        reuse: bool = False,
    ) -> Any:
        """Add items behind the others; nothing changes if one of them cannot be added, or if there are none.

        Parameters
        ----------
        item_ids : sequence of n ids, of the type that the catalogue has
        codes : array-like of shape (n, n_levels), integers; or mapping of view to such, optional
            Free codes. Or give, instead of them, `quantizer` and `X`.
        quantizer : Quantizer or MultiViewQuantizer, optional
            That of the codes in the catalogue; `semid.resolve` then finds free ones at the least distortion.
        X : ndarray of shape (n, dim), or mapping of view to such, optional
            Embeddings of the new items.
        weights : ndarray of shape (n,), optional
            As in `semid.resolve`; with `quantizer` alone.
        reuse : bool, default=False
            Allow codes that removed items had. A model was trained on those, and may still mean the removed item.

        Returns
        -------
        codes : ndarray of shape (n, n_levels), unsigned; or dict of view to such
            Of the new items.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If an id is known or repeats; if codes are taken, retired, alike, out of range, or not as many as ids; if
            the quantizer has other views or codebook sizes, or the items do not fit.
        """
        if (codes is None) == (quantizer is None) or (quantizer is None) != (X is None):
            got = [name for name, one in {"codes": codes, "quantizer": quantizer, "X": X}.items() if one is not None]
            raise InvalidValueError(
                f"codes are needed once: expected either codes, or quantizer and X, got {got or 'neither'}. "
                "Pass one of the two."
            )
        if weights is not None and quantizer is None:
            raise InvalidValueError(
                "weights are of no use: expected them with quantizer and X, got codes. Leave them out."
            )
        contents, new_ids = self._contents, as_ids(item_ids)
        known = np.flatnonzero(contents.keys.find(new_ids) >= 0)
        if len(known):
            raise InvalidValueError(
                f"item ids are in the catalogue already: expected new ids, got {shown([new_ids[i] for i in known])}. "
                "Published IDs never move: remove the items first."
            )
        if codes is None:
            codes = quantized.free_codes(self, new_ids, quantizer, X, weights=weights, reuse=reuse)
        self._contents, added = contents.joined(new_ids, codes, reuse=reuse)
        return self._like_given(added)

    def remove(self, item_ids: Iterable[Any]) -> None:
        """Remove items; nothing changes if one of them is unknown.

        Their codes stay retired: `add` refuses them unless told to reuse them, as when the same item comes back.

        Raises
        ------
        InvalidValueError
            If an id is unknown, or no item would be left.
        InvalidTypeError
            If `item_ids` is a single id.
        """
        contents = self._contents
        # A set is fine here: no other argument has a row for each id.
        ids = as_ids(list(item_ids) if isinstance(item_ids, set | frozenset) else item_ids)
        positions = np.unique(self._positions(contents, ids, "raise"))
        if len(positions) == 0:
            return
        if len(positions) == len(contents.keys):
            raise InvalidValueError(
                f"the catalogue would be empty: expected fewer than {len(self)} ids, got all. Make a new one instead."
            )
        self._contents = contents.without(positions)

    def update_embeddings(self, item_ids: Any, quantizer: Any, X: Any, *, previous: Any = None) -> Any:
        """Say how far items with new embeddings are from their IDs, which stay.

        A catalogue holds no embeddings, and a model has learnt the IDs; so this changes nothing. When much has
        drifted, fit, resolve and train again.

        Parameters
        ----------
        item_ids : sequence of n ids
        quantizer : Quantizer or MultiViewQuantizer
            That of the codes.
        X : ndarray of shape (n, dim), or mapping of view to such
            The new embeddings.
        previous : ndarray of shape (n, dim), or mapping of view to such, optional
            The embeddings before; without them, nearest codes are compared with the published IDs, and
            `Drift.distortion_before` is unknown.

        Returns
        -------
        drift : Drift, or dict of view to Drift
            ``n_changed``, ``n_changed_by_level``, ``distortion_before``, ``distortion_after``, ``distortion_nearest``.

        Raises
        ------
        InvalidValueError
            If an id is unknown, lengths differ, or the quantizer has other views or codebook sizes.
        InvalidTypeError
            If `item_ids` is a single id, which would be ``[item_id]``, or `quantizer` no quantizer.
        """
        return quantized.drift_of(self, as_ids(item_ids), quantizer, X, previous)

    def sign(self, model: Any, *, vocab: Any = None) -> dict[str, Any]:
        """Write into a model's config that it is trained on this generation; the model's own saving keeps it.

        Parameters
        ----------
        model : transformers model or config, or dict
            Gets an entry "semid".
        vocab : SidVocabulary, or mapping of view to such, optional
            What the model was trained with.

        Returns
        -------
        signature : dict
            ``fingerprint``, ``generation``, and ``vocabularies``, view to fingerprint.
        """
        return pairing.sign_config(self, model, vocab)

    def check_pair(self, *, trie: Any = None, vocab: Any = None, model: Any = None, view: str | None = None) -> None:
        """Raise unless what is given belongs to this catalogue.

        Parameters
        ----------
        trie : Trie, optional
            Must be of this generation and view, for its ranks mean other items in any other.
        vocab : SidVocabulary, optional
            Must have a token for every code of the view. It does not depend on the items.
        model : transformers model or config, or dict, optional
            Must have been signed (`sign`) by this catalogue, in this or an earlier generation since which no ID was
            given to another item. With `vocab`, it must have been signed with that as well.
        view : str, optional
            Required for `trie` and `vocab` when there are several views.

        Raises
        ------
        InvalidValueError
            If something does not belong; the message has both fingerprints.
        InvalidTypeError
            If something is of another type.
        """
        if trie is not None:
            pairing.check_trie(self, trie, self._view(view))
        if vocab is not None:
            pairing.check_vocab(self, vocab, self._view(view))
        if model is not None:
            pairing.check_model(self, model, vocab, None if vocab is None else self._view(view))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the catalogue to a folder, whole or not at all; what was saved there before stays until then."""
        history = {**self._history, self.generation: self.fingerprint}
        saving.write_catalogue(folder, self._contents, history, text=repr(self))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, mmap: bool = False, verify: bool = True) -> Self:
        """Read a catalogue from a folder that `save_pretrained` wrote.

        Parameters
        ----------
        folder : path-like
        mmap : bool, default=False
            Map the arrays instead of reading them; processes that map the same folder share its memory.
        verify : bool, default=True
            Read all once and compare with the checksum. False trusts the folder, and opens it at once with `mmap`.

        Raises
        ------
        FormatError
            If the folder is missing, damaged, of another version, changed by hand, or holds something else.
        """
        sids = cls.__new__(cls)
        sids._contents, sids._history = saving.read_catalogue(folder, mmap=mmap, verify=verify)
        return sids

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame with the columns item_id, code_0, .. ; of named views, view_code_0, .. of each."""
        return tables.to_pandas(self)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the items as a parquet file with the columns of `to_pandas`, whole or not at all.

        The table is for other tools: it holds neither retired IDs nor the history. Needs the extra "data".
        """
        tables.write_table(self, path)

    @classmethod
    def from_parquet(cls, path: str | os.PathLike[str], *, codebook_sizes: Any = None) -> Self:
        """Make a catalogue, of generation 0, of a parquet file from `to_parquet` or with such columns.

        Parameters
        ----------
        path : path-like
        codebook_sizes : sequence of int, or mapping of view to such, optional
            Default: those that `to_parquet` noted, else the largest codes plus one.
        """
        item_ids, codes, noted = tables.read_table(path)
        return cls(item_ids, codes, codebook_sizes=noted if codebook_sizes is None else codebook_sizes)

    def _fingerprint_of(self, contents: Contents) -> str:
        if contents.generation not in self._history:
            order = contents.order[min(contents.codes, key=str)]
            found = fingerprint(contents.keys, contents.codes, contents.codebook_sizes, order)
            self._history[contents.generation] = found
        return self._history[contents.generation]

    def _trie_of(self, contents: Contents, view: str | None) -> Trie:
        if view not in contents.tries:
            trie = Trie.from_codes(
                contents.codes[view],
                codebook_sizes=contents.codebook_sizes[view],
                fingerprint=named(self._fingerprint_of(contents), view),
                generation=contents.generation,
            )
            if trie.n_items < len(contents.keys):
                raise FormatError(
                    f"{title(view)} were damaged: expected {len(contents.keys)} unique rows, got {trie.n_items}. "
                    "Save again."
                )
            contents.tries[view] = trie
        return contents.tries[view]

    def _items_at(self, contents: Contents, ranks: Any, view: str | None) -> Any:
        ranks = check_ranks(ranks, n_items=len(contents.keys), least=-1)
        found = np.full(ranks.shape, None, object)
        valid = ranks >= 0
        found[valid] = contents.keys.at(contents.order[view][ranks[valid]])
        return found.tolist()

    def _like_given(self, by_view: Mapping[str | None, Any]) -> Any:
        return by_view[None] if None in by_view else dict(by_view)

    def _view(self, view: str | None) -> str | None:
        codes = self._contents.codes
        if view is None and len(codes) == 1:
            return next(iter(codes))
        if view not in tuple(codes):  # a list, say, has no hash
            expected = f"one of {self.views}" if self.views else "none, for these codes have no views"
            raise InvalidValueError(f"view is unknown: expected {expected}, got {view!r}. Correct the name.")
        return view

    def _positions(self, contents: Contents, item_ids: Any, errors: str) -> Any:
        check_errors(errors)
        single = isinstance(item_ids, str) or not np.iterable(item_ids)
        ids = as_ids([item_ids] if single else item_ids)
        positions = contents.keys.find(ids)
        if errors == "raise" and (positions < 0).any():
            unknown = [ids[i] for i in np.flatnonzero(positions < 0)]
            raise InvalidValueError(
                f"item ids are unknown: expected ids of the catalogue, got {shown(unknown)}. "
                "Add the items, or pass errors='ignore'."
            )
        return positions[0] if single else positions


def named(fingerprint: str, view: str | None) -> str:
    """Return the fingerprint of a view's trie."""
    return fingerprint if view is None else f"{fingerprint}:{view}"
