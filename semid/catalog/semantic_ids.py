"""A catalogue of semantic IDs: item id <-> codes <-> rank, for one view or several."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Self, final

import numpy as np

from semid._arrays import CodeArray
from semid._checks import as_ids, as_integers, check_errors, check_ranks, shown
from semid.catalog import pairing, quantized, saving, tables
from semid.catalog.contents import Contents, as_given, make_contents, title
from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.trie import Trie

__all__ = ["SemanticIds"]


@final
class SemanticIds:
    """Items with one semantic ID each, or one per view.

    A catalogue can change: `add` and `remove` work in place and increase `generation`; a call that fails changes
    nothing. IDs of items that stay are bit-identical afterwards. Results from before a change stay as they are: codes
    are copies, and a `Trie` is that of its generation. `save_pretrained` saves the whole catalogue; `to_parquet` writes
    a table for other tools.

    Parameters
    ----------
    item_ids : sequence of int or of str, length n_items
        The caller's own keys, each once.
    codes : array-like of shape (n_items, n_levels), integers; or mapping of view to such arrays
        One row per item; within a view, no two rows are equal.
    codebook_sizes : sequence of int, or mapping of view to such sequences, optional
        Number of codes of each level, for all views or for each. Default: those of `quantizer` if it has as many levels
        as the codes, else the largest code plus one. Pass it if items may be added later.
    quantizer : Quantizer or MultiViewQuantizer, optional
        What made the codes. Its fingerprint is kept: `add` and `update_embeddings` refuse a quantizer of another fit,
        whose codes mean something else.

    Attributes
    ----------
    views : tuple of str
        Empty for codes without views.
    generation : int
        Number of changes since the catalogue was first made; saved and loaded with it.
    last_reuse : int
        Generation in which the ID of a removed item was last given to another item; 0 if never.
    nbytes : int
        Bytes of ids, codes and their orders, without tries; see `Trie.nbytes`.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If ids repeat or mix types; if rows of codes are equal, out of range, or not as many as ids.

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

    def __init__(
        self, item_ids: Iterable[Any], codes: Any, *, codebook_sizes: Any = None, quantizer: Any = None
    ) -> None:
        self._contents = make_contents(item_ids, codes, quantized.sizes_for_codes(codes, codebook_sizes, quantizer))
        self._history = dict[int, str]()
        if quantizer is not None:
            self.set_quantizer(quantizer)

    def __copy__(self) -> Self:
        """Return an independent catalogue of the same items; contents never change, so both share them."""
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
        return bool(self._contents.keys.find([_unpacked(item_id)])[0] >= 0)

    def __iter__(self) -> Iterator[Any]:
        for ids in self._contents.keys.blocks():
            yield from ids

    def __getitem__(self, positions: slice) -> Self:
        """Return some of the items, by position, as a new catalogue: generation 0, no retired IDs."""
        if not isinstance(positions, slice):
            raise InvalidTypeError(
                f"a position has a wrong type: expected a slice, got {positions!r}. Use codes_of for the codes of an "
                "item, items_at for the item at a rank."
            )
        contents = self._contents
        chosen = np.arange(len(contents.keys))[positions]
        if len(chosen) == 0:
            raise InvalidValueError(
                f"the slice is empty: expected positions in 0 .. {len(self) - 1}, got {positions}. A catalogue has "
                "at least one item."
            )
        codes = {view: rows[chosen] for view, rows in contents.codes.items()}
        some = type(self)(contents.keys.at(chosen), as_given(codes), codebook_sizes=self.codebook_sizes)
        some._contents = replace(some._contents, quantizer=contents.quantizer)
        return some

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views; empty for codes without views."""
        return self._contents.views

    @property
    def n_levels(self) -> Any:
        """Number of levels: an int, or a dict from view to int."""
        return as_given({view: len(sizes) for view, sizes in self._contents.codebook_sizes.items()})

    @property
    def codebook_sizes(self) -> Any:
        """Number of codes of each level: a tuple, or a dict from view to tuple."""
        return as_given(self._contents.codebook_sizes)

    @property
    def generation(self) -> int:
        """Number of changes since the catalogue was first made."""
        return self._contents.generation

    @property
    def last_reuse(self) -> int:
        """Generation in which the ID of a removed item was last given to another item; 0 if never."""
        return self._contents.last_reuse

    @property
    def nbytes(self) -> int:
        """Bytes of ids, codes and their orders, without tries."""
        return self._contents.nbytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ids, codes and codebook sizes, in hexadecimal; the order of the items does not matter."""
        return self._identity(self._contents).fingerprint

    @property
    def history(self) -> dict[int, str]:
        """Fingerprints by generation, of those generations that were signed, saved or had a trie."""
        return dict(self._history)

    def codes_of(self, item_ids: Any, view: str | None = None, *, errors: str = "raise") -> Any:
        """Return the codes of items.

        Parameters
        ----------
        item_ids : sequence of n ids, or one id
        view : str, optional
            Required when there are several views.
        errors : {"raise", "ignore"}, default="raise"
            What to do with unknown ids: raise, or return rows of -1. With "ignore" the dtype is always int64.

        Returns
        -------
        codes : ndarray of shape (n, n_levels) or (n_levels,), unsigned

        Raises
        ------
        InvalidValueError
            If an id is unknown and `errors` is "raise", or the view is unknown or missing.
        InvalidTypeError
            If `item_ids` is a set, which has no order.
        """
        contents = self._contents
        codes = contents.codes[contents.view_named(view)]
        positions = _positions(contents, item_ids, errors)
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
            What to do with unknown ids: raise, or return -1.

        Returns
        -------
        ranks : ndarray of shape (n,), dtype int64; an int for one id

        Raises
        ------
        InvalidValueError, InvalidTypeError
            As `codes_of`.
        """
        contents = self._contents
        view = contents.view_named(view)
        positions = _positions(contents, item_ids, errors)
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
            Nested as `codes` is, None for codes of no item; one id for a single row.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If the last axis does not have one code per level, or codes are not integers.
        """
        contents = self._contents
        view = contents.view_named(view)
        codes = as_integers(codes, "codes")
        if codes.shape == (0,):  # an empty list of rows does not show its levels
            return []
        return _items_at(contents, self._trie_of(contents, view).rank(codes), view)

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
            If a rank is below -1, not below n_items, or not an integer.
        """
        contents = self._contents
        return _items_at(contents, ranks, contents.view_named(view))

    def trie(self, view: str | None = None) -> Trie:
        """Return the trie of a view, with the fingerprint of this generation; it is built anew after a change."""
        contents = self._contents
        return self._trie_of(contents, contents.view_named(view))

    def trie_fingerprint(self, view: str | None = None) -> str:
        """Return the fingerprint of a view's trie: that of the catalogue, and the name of the view if it has one."""
        contents = self._contents
        return self._identity(contents).of_trie(contents.view_named(view))

    def taken(self, view: str | None = None, *, retired: bool = True) -> CodeArray:
        """Return the codes of all items in their order, then the retired codes, shape (n, n_levels)."""
        contents = self._contents
        view = contents.view_named(view)
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
        """Add items after the others; nothing changes if one of them cannot be added, or if there are none.

        Parameters
        ----------
        item_ids : sequence of n ids, of the type of the other ids
        codes : array-like of shape (n, n_levels), integers; or mapping of view to such arrays, optional
            Free codes. Pass either these, or `quantizer` and `X`.
        quantizer : Quantizer or MultiViewQuantizer, optional
            The quantizer that made the codes of the catalogue. `semid.resolve` then finds free codes for `X` at the
            least distortion. One of another fit is refused; a catalogue that was made without `quantizer` warns.
        X : ndarray of shape (n, dim), or mapping of view to such arrays, optional
            Embeddings of the new items.
        weights : ndarray of shape (n,), optional
            As in `semid.resolve`; only with `quantizer`.
        reuse : bool, default=False
            Allow codes of removed items. A model that was trained on those codes may still mean the removed items.

        Returns
        -------
        codes : ndarray of shape (n, n_levels), unsigned; or dict of view to such arrays
            The codes of the new items.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If an id is known or repeats; if codes are taken, retired, equal, out of range, or not as many as ids; if
            the quantizer has other views or codebook sizes, or the items do not fit.
        """
        if (codes is None) == (quantizer is None) or (quantizer is None) != (X is None):
            got = [name for name, one in {"codes": codes, "quantizer": quantizer, "X": X}.items() if one is not None]
            raise InvalidValueError(
                f"codes are missing or given twice: expected either codes, or quantizer and X, got "
                f"{got or 'neither'}. Pass one of the two."
            )
        if weights is not None and quantizer is None:
            raise InvalidValueError(
                "weights do not apply to codes: expected weights only with quantizer and X, got codes. Leave them out."
            )
        contents, new_ids = self._contents, as_ids(item_ids)
        known = np.flatnonzero(contents.keys.find(new_ids) >= 0)
        if len(known):
            raise InvalidValueError(
                f"item ids are in the catalogue already: expected new ids, got {shown([new_ids[i] for i in known])}. "
                "Published IDs never move: remove the items first."
            )
        if codes is None:
            codes = quantized.free_codes(contents, new_ids, quantizer, X, weights=weights, reuse=reuse)
        self._contents, added = contents.joined(new_ids, codes, reuse=reuse)
        return as_given(added)

    def remove(self, item_ids: Iterable[Any]) -> None:
        """Remove items; if one of them is unknown, nothing changes.

        Their codes are retired: `add` refuses them without ``reuse=True``, even if the same item comes back.

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
        positions = np.unique(_positions(contents, ids))
        if len(positions) == 0:
            return
        if len(positions) == len(contents.keys):
            raise InvalidValueError(
                f"the catalogue would be empty: expected fewer than {len(self)} ids, got all. Make a new one instead."
            )
        self._contents = contents.without(positions)

    def update_embeddings(self, item_ids: Any, quantizer: Any, X: Any, *, previous: Any = None) -> Any:
        """Report how far new embeddings of items have moved from their IDs; the IDs do not change.

        A catalogue holds no embeddings, and a model has learnt the IDs, so this call changes nothing. If much has
        drifted, fit, resolve and train again.

        Parameters
        ----------
        item_ids : sequence of n ids
        quantizer : Quantizer or MultiViewQuantizer
            The quantizer that made the codes.
        X : ndarray of shape (n, dim), or mapping of view to such arrays
            The new embeddings.
        previous : ndarray of shape (n, dim), or mapping of view to such arrays, optional
            The old embeddings. Without them, the nearest codes are compared with the published IDs, and
            `Drift.distortion_before` is NaN.

        Returns
        -------
        drift : Drift, or dict of view to Drift
            ``n_changed``, ``n_changed_by_level``, ``distortion_before``, ``distortion_after``, ``distortion_nearest``.

        Raises
        ------
        InvalidValueError
            If an id is unknown, lengths differ, or the quantizer has other views or codebook sizes.
        InvalidTypeError
            If `item_ids` is a single id instead of a sequence, or `quantizer` is not a quantizer.
        """
        contents = self._contents
        return quantized.drift_of(contents, _positions(contents, as_ids(item_ids)), quantizer, X, previous)

    def sign(self, model: Any, *, vocab: Any = None) -> dict[str, Any]:
        """Write into a model's config that it is trained on this generation; saving the model saves it, too.

        Parameters
        ----------
        model : transformers model or config, or dict
            Its config gets an entry "semid".
        vocab : SidVocabulary, or mapping of view to SidVocabulary, optional
            The vocabulary that the model is trained with.

        Returns
        -------
        signature : dict
            The entry: ``fingerprint``, ``generation``, and ``vocabularies``, a dict of view to fingerprint.

        Raises
        ------
        InvalidValueError
            If a vocabulary has no view among several, an unknown one, or no token for some code.
        InvalidTypeError
            If something is of another type.
        """
        contents = self._contents
        return pairing.sign_config(contents, self._identity(contents), model, vocab)

    def set_quantizer(self, quantizer: Any) -> None:
        """Say which quantizer made the codes, so that `add` and `update_embeddings` refuse another one.

        For a catalogue that was made from codes alone, and for a quantizer that has changed since without changing what
        the codes mean, as by `refit`. No ID and no generation changes.

        Parameters
        ----------
        quantizer : Quantizer or MultiViewQuantizer
            Fitted, with the views and the codebook sizes of this catalogue.
        """
        quantized.check_fit(self._contents, quantizer)
        self._contents = replace(self._contents, quantizer=quantized.quantizer_fingerprint(quantizer))

    def check_pair(
        self,
        *,
        trie: Any = None,
        vocab: Any = None,
        model: Any = None,
        quantizer: Any = None,
        view: str | None = None,
    ) -> None:
        """Raise unless the given trie, vocabulary, model and quantizer belong to this catalogue.

        Parameters
        ----------
        trie : Trie, optional
            Must be of this generation and view: in any other, its ranks mean other items.
        vocab : SidVocabulary, optional
            Must have a token for every code of the view. It does not depend on the items.
        model : transformers model or config, or dict, optional
            Must have been signed (`sign`) by this catalogue, in this generation or an earlier one. No ID may have been
            given to another item since then. If `vocab` is given, the model must have been signed with it.
        quantizer : Quantizer or MultiViewQuantizer, optional
            Must be the one that made the codes: of the same fingerprint.
        view : str, optional
            Required for `trie` and `vocab` when there are several views.

        Raises
        ------
        InvalidValueError
            If one of them does not belong to it; the message has both fingerprints.
        InvalidTypeError
            If something is of another type.
        """
        contents = self._contents
        if trie is not None:
            pairing.check_trie(contents, self._identity(contents), trie, contents.view_named(view))
        if vocab is not None:
            pairing.check_vocab_pair(contents, vocab, contents.view_named(view))
        if model is not None:
            of_vocab = None if vocab is None else contents.view_named(view)
            pairing.check_model_pair(self._identity(contents), model, vocab, of_vocab)
        if quantizer is not None:
            quantized.check_fit(contents, quantizer)
            if contents.quantizer is None:
                raise InvalidValueError(
                    "the catalogue does not know which quantizer made its codes: expected SemanticIds(.., quantizer=..)"
                    ", got codes alone. Call set_quantizer with the one that did."
                )
            quantized.check_known(contents, quantizer)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the catalogue to a folder; a catalogue there is replaced only once the new one is complete."""
        contents = self._contents
        saving.write_catalogue(folder, contents, self._identity(contents), text=repr(self))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, mmap: bool = False, verify: bool = True) -> Self:
        """Read a catalogue from a folder that `save_pretrained` wrote.

        Parameters
        ----------
        folder : path-like
        mmap : bool, default=False
            Map the arrays instead of reading them; processes that map the same folder share its memory.
        verify : bool, default=True
            Read everything once and compare it with the checksum. False skips this check, so that `mmap` opens the
            folder at once; use it for folders that you trust.

        Raises
        ------
        FormatError
            If the folder is missing, damaged, of another version, changed by hand, or holds something else.
        """
        sids = cls.__new__(cls)
        sids._contents, sids._history = saving.read_catalogue(folder, mmap=mmap, verify=verify)
        return sids

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame with the columns item_id, code_0, ..; with views, <view>_code_0, .. of each."""
        return tables.to_pandas(self._contents)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the items as a parquet file with the columns of `to_pandas`, whole or not at all.

        The table is for other tools: it holds neither retired IDs nor the history. Needs the extra "data".
        """
        contents = self._contents
        tables.write_table(contents, self._identity(contents).fingerprint, path)

    @classmethod
    def from_parquet(cls, path: str | os.PathLike[str], *, codebook_sizes: Any = None) -> Self:
        """Make a catalogue of generation 0 from a parquet file of `to_parquet`, or one with the same columns.

        Parameters
        ----------
        path : path-like
        codebook_sizes : sequence of int, or mapping of view to such sequences, optional
            Default: those that `to_parquet` wrote, or else the largest codes plus one.

        Raises
        ------
        FormatError
            If the file is missing, is not a parquet file, or has other columns.
        """
        item_ids, codes, noted = tables.read_table(path)
        return cls(item_ids, codes, codebook_sizes=noted if codebook_sizes is None else codebook_sizes)

    def _identity(self, contents: Contents) -> pairing.Identity:
        if contents.generation not in self._history:
            self._history[contents.generation] = pairing.fingerprint_of(contents)
        fingerprint = self._history[contents.generation]
        return pairing.Identity(fingerprint, contents.generation, contents.last_reuse, self.history)

    def _trie_of(self, contents: Contents, view: str | None) -> Trie:
        if view not in contents.tries:
            trie = Trie.from_codes(
                contents.codes[view],
                codebook_sizes=contents.codebook_sizes[view],
                fingerprint=self._identity(contents).of_trie(view),
                generation=contents.generation,
            )
            if trie.n_items < len(contents.keys):
                raise FormatError(
                    f"{title(view)} were damaged: expected {len(contents.keys)} unique rows, got {trie.n_items}. "
                    "Save again."
                )
            contents.tries[view] = trie
        return contents.tries[view]


def _items_at(contents: Contents, ranks: Any, view: str | None) -> Any:
    ranks = check_ranks(ranks, n_items=len(contents.keys), least=-1)
    found = np.full(ranks.shape, None, object)
    valid = ranks >= 0
    found[valid] = contents.keys.at(contents.order[view][ranks[valid]])
    return found.tolist()


def _positions(contents: Contents, item_ids: Any, errors: str | None = None) -> Any:
    """Return the positions of a sequence of ids, or of one id; -1 for unknown ids if `errors` is "ignore".

    None raises as "raise" does, for callers that have no `errors`.
    """
    if errors is not None:
        check_errors(errors)
    single = isinstance(item_ids, str) or not np.iterable(item_ids)
    ids = as_ids([_unpacked(item_ids)] if single else item_ids)
    positions = contents.keys.find(ids)
    if errors != "ignore" and (positions < 0).any():
        unknown = [ids[i] for i in np.flatnonzero(positions < 0)]
        remedy = "Leave them out." if errors is None else "Add the items, or pass errors='ignore'."
        raise InvalidValueError(f"item ids are unknown: expected ids of the catalogue, got {shown(unknown)}. {remedy}")
    return positions[0] if single else positions


def _unpacked(item_id: Any) -> Any:
    """Return the id in an array or tensor without dimensions; any other id as it is."""
    return item_id.item() if hasattr(item_id, "item") and getattr(item_id, "ndim", 1) == 0 else item_id
