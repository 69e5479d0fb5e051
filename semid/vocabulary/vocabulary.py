"""The language model's side of semantic IDs: (level, code) <-> token."""

import copy
import hashlib
import os
import warnings
from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np

from semid._arrays import Int64Array
from semid._checks import check_count, check_errors, check_sizes, check_views, shown
from semid.errors import InvalidTypeError, InvalidValueError
from semid.vocabulary.checks import (
    check_codes,
    check_eos,
    check_n_shared,
    check_prefixes,
    check_rows,
    check_token_ids,
    levels_in,
)
from semid.vocabulary.lookup import Lookup, Tables
from semid.vocabulary.saving import Saved, read_vocabulary, write_vocabulary

__all__ = ["SidVocabulary"]


@final
class SidVocabulary:
    """One token per code of each level, for one view of the items.

    A token is written ``<prefix_level_code>``, such as ``<sid_0_17>``. Until `extend` has added the tokens to a
    tokenizer, the vocabulary knows their names and not yet their ids.

    Parameters
    ----------
    codebook_sizes : sequence of int
        Number of codes of each level.
    prefix : str or sequence of str, default="sid"
        First part of the token names; a sequence gives each level its own. Vocabularies that name the same tokens
        share them, see `for_views`.

    Attributes
    ----------
    codebook_sizes : tuple of int
    n_levels : int
    prefixes : tuple of str
        One per level; empty for a vocabulary made by `from_token_ids`.
    eos_token_id : int or None
        The token that ends a text; `extend` takes it from the tokenizer.
    level_tokens : tuple of ndarray of shape (codebook_size,), dtype int64
        The token id of each code, per level.
    catalogue : str or None
        Fingerprint of the catalogue, and of its view, that the vocabulary is tied to, see `tied_to`.
    generation : int or None
        Of that catalogue.

    Examples
    --------
    >>> vocab = SidVocabulary.from_token_ids([[100, 101], [102, 103, 104]], eos_token_id=1)
    >>> vocab.to_tokens([[1, 2], [0, 0]])
    array([[101, 104],
           [100, 102]])
    >>> vocab.to_codes([101, 104])
    array([1, 2])
    >>> SidVocabulary([2, 3]).to_text([1, 2])
    '<sid_0_1><sid_1_2>'
    """

    def __init__(self, codebook_sizes: Sequence[int], *, prefix: str | Sequence[str] = "sid") -> None:
        self.codebook_sizes = check_sizes(codebook_sizes)
        self.prefixes = check_prefixes(prefix, len(self.codebook_sizes))
        self.eos_token_id: int | None = None
        self.catalogue: str | None = None
        self.generation: int | None = None
        self._level_tokens: tuple[Int64Array, ...] = ()
        self._lookups: tuple[Lookup, ...] = ()
        self._tables: Tables | None = None
        self._highest: tuple[int, ...] = ()

    @classmethod
    def from_token_ids(cls, token_ids: Sequence[Any], *, eos_token_id: int | None = None) -> Self:
        """Make a vocabulary of tokens that a model already has.

        Parameters
        ----------
        token_ids : sequence of array-like of shape (codebook_size,), integers
            Per level, the token id of each code; any order, gaps and ids that levels have in common are fine.
        eos_token_id : int, optional
            A token of no level.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If a level is empty, repeats a token, or holds a negative or fractional id, or if the end token is that of
            a code.
        """
        given = levels_in(token_ids, name="token_ids", each="one array", remedy="Write [ids_of_level_0, ..].")
        levels = tuple(check_token_ids(ids, level) for level, ids in enumerate(given))
        vocab = cls([len(ids) for ids in levels])
        vocab.prefixes = ()
        vocab.eos_token_id = check_eos(eos_token_id, levels)
        vocab._set_tokens(levels)
        return vocab

    @classmethod
    def for_views(
        cls, codebook_sizes: Sequence[int], *, n_shared: int, views: Sequence[str], prefix: str = "sid"
    ) -> dict[str, Self]:
        """Make one vocabulary per view, with the same tokens on the first `n_shared` levels.

        GenSAR (arXiv:2504.05730) gives an item a semantic and a collaborative ID that begin with the same codes: a
        shared level is written ``<sid_0_17>`` in both, a specific one ``<sid-semantic_1_4>``.

        Parameters
        ----------
        codebook_sizes : sequence of int
            Number of codes of each level, the same for all views.
        n_shared : int
            ``0 <= n_shared <= n_levels``.
        views : sequence of str
        prefix : str, default="sid"

        Returns
        -------
        vocabularies : dict of str to SidVocabulary
            Extend the same tokenizer and model with each of them, in any order.

        Examples
        --------
        >>> vocabs = SidVocabulary.for_views([8, 8], n_shared=1, views=["semantic", "collaborative"])
        >>> {view: vocab.to_text([3, 5]) for view, vocab in vocabs.items()}
        {'semantic': '<sid_0_3><sid-semantic_1_5>', 'collaborative': '<sid_0_3><sid-collaborative_1_5>'}
        """
        sizes = check_sizes(codebook_sizes)
        names, n_shared = check_views(views), check_n_shared(n_shared, len(sizes))
        n_specific = len(sizes) - n_shared
        return {view: cls(sizes, prefix=[prefix] * n_shared + [f"{prefix}-{view}"] * n_specific) for view in names}

    def __repr__(self) -> str:
        names = sorted(set(self.prefixes)) or None
        state = f"tokens {min(map(np.min, self._level_tokens))} and up" if self._level_tokens else "not extended"
        return (
            f"SidVocabulary(codebook_sizes={self.codebook_sizes}, prefixes={names}, {state}, "
            f"eos_token_id={self.eos_token_id})"
        )

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.codebook_sizes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of codebook sizes, prefixes and token ids, in hexadecimal: what a model is trained with."""
        digest = hashlib.sha256(repr((self.codebook_sizes, self.prefixes)).encode())
        for tokens in self._level_tokens:
            digest.update(np.ascontiguousarray(tokens, "<i8").tobytes())
        return digest.hexdigest()

    @property
    def level_tokens(self) -> tuple[Int64Array, ...]:
        """Token id of each code, one read-only array per level."""
        if not self._level_tokens:
            raise InvalidValueError(
                "the vocabulary has no token ids yet: expected a tokenizer that knows the tokens, got none. "
                "Call extend(tokenizer) first."
            )
        return self._level_tokens

    @property
    def highest_tokens(self) -> tuple[int, ...]:
        """The largest token id of each level."""
        return self._highest

    @property
    def tables(self) -> Tables | None:
        """What `to_codes` looks up, as kernels read it; None where the tokens of a level lie far apart."""
        return self._tables

    # The three ways to write an ID: names, text, token ids.

    def tokens_of(self, codes: Any) -> list[Any]:
        """Return the names of the tokens of codes.

        Parameters
        ----------
        codes : array-like of shape (..., depth), integers
            Whole IDs or prefixes of one depth.

        Returns
        -------
        tokens : list of str
            Nested as `codes` is.
        """
        if not self.prefixes:
            raise InvalidValueError(
                "the tokens have no names: expected a vocabulary with a prefix, got one made of token ids. "
                "Use to_tokens and decode them with the tokenizer."
            )
        codes = check_codes(codes, self.codebook_sizes)
        if codes.ndim > 1:
            return [self.tokens_of(row) for row in codes]
        return [f"<{self.prefixes[level]}_{level}_{code}>" for level, code in enumerate(codes)]

    def to_text(self, codes: Any) -> Any:
        """Return codes as text: a str for codes of shape (depth,), a nested list of str for more dimensions."""
        tokens = self.tokens_of(codes)
        return "".join(tokens) if not tokens or isinstance(tokens[0], str) else [self.to_text(row) for row in codes]

    def to_tokens(self, codes: Any) -> Int64Array:
        """Return the token ids of codes.

        Parameters
        ----------
        codes : array-like of shape (..., depth), integers
            Whole IDs, or prefixes of one depth.

        Returns
        -------
        token_ids : ndarray of shape (..., depth), dtype int64

        Raises
        ------
        InvalidValueError
            If a code is not below its codebook size, or the vocabulary has no token ids yet.
        """
        codes = check_codes(codes, self.codebook_sizes)
        token_ids = np.empty(codes.shape, np.int64)
        for level in range(codes.shape[-1]):
            token_ids[..., level] = self.level_tokens[level][codes[..., level]]
        return token_ids

    def to_codes(self, token_ids: Any, *, errors: str = "raise") -> Int64Array:
        """Return the codes of token ids.

        Parameters
        ----------
        token_ids : array-like or torch tensor of shape (..., depth), integers
            Column ``level`` holds tokens of that level; ``depth <= n_levels``.
        errors : {"raise", "ignore"}, default="raise"
            What to do with a token that is not of its level: raise, or return -1 for it.

        Returns
        -------
        codes : ndarray of shape (..., depth), dtype int64

        Raises
        ------
        InvalidValueError
            If a token is not of its level (the message names them), or there are too many levels.
        """
        check_errors(errors)
        token_ids = check_rows(token_ids, self.n_levels, name="token_ids")
        codes = np.empty(token_ids.shape, np.int64)
        for level, _ in enumerate(self.level_tokens[: token_ids.shape[-1]]):
            codes[..., level] = self._lookups[level].codes_of(token_ids[..., level])
        if errors == "raise" and codes.size and codes.min() < 0:
            level = int(np.argwhere(codes < 0)[0][-1])
            others = np.unique(token_ids[..., level][codes[..., level] < 0])
            raise InvalidValueError(
                f"tokens are outside the vocabulary: expected tokens of level {level}, got {shown(others)}. "
                "Cut the prompt and the end token off first."
            )
        return codes

    def extend(
        self,
        tokenizer: Any,
        model: Any = None,
        *,
        codebooks: Sequence[Any] | None = None,
        resize: bool = True,
        seed: int = 0,
    ) -> Self:
        """Add the tokens to a tokenizer, and rows for them to a model.

        Tokens that the tokenizer already has from an earlier call (a saved tokenizer, a level shared by two views) are
        used as they are; their rows keep their values if the model has them, with and without `codebooks`, for nobody
        can tell whether they are trained. So extend a tokenizer and a new model in one call: a model often has rows to
        spare. The rows of the input and output embeddings for all other levels get the mean of the existing rows plus
        a deviation of the same root-mean-square length:

        - with `codebooks`, the centroids of the level minus their mean, turned into the hidden size by a random
          matrix with orthonormal rows or columns (which keeps distances when the hidden size is no smaller than the
          centroids), so that near codes begin as near tokens;
        - without, normal noise with the standard deviation of each dimension.

        After an error, tokenizer and vocabulary are as before; so is the model, unless its own resizing failed.

        Parameters
        ----------
        tokenizer : transformers tokenizer
            Changed in place.
        model : transformers model, optional
            Changed in place: its embeddings grow when they have fewer rows than the tokenizer has tokens.
        codebooks : sequence of array-like of shape (codebook_size, dim), optional
            Centroids, one array per level. A UserWarning says so if no row gets its values from them.
        resize : bool, default=True
            Allow the model's embeddings to grow.
        seed : int, default=0
            Of the random matrix and the noise.

        Returns
        -------
        self : SidVocabulary

        Raises
        ------
        InvalidValueError
            If the tokenizer has some of a level's tokens but not exactly them, or as ordinary words; if the tokenizer
            splits them; if the embeddings are too small and must not grow; if codebooks disagree with the sizes; if
            the seed is negative.
        InvalidTypeError
            If `model` is not a transformers model, codebooks come without one or are none, or the seed is no integer.
        """
        from semid.vocabulary.embeddings import are_initial, check_codebooks, check_model, grow, initialise
        from semid.vocabulary.tokens import add_tokens, check_encoding, missing_levels

        if not self.prefixes:
            raise InvalidValueError(
                "the tokens have no names: expected a vocabulary with a prefix, got one made of token ids. "
                "Its tokens are in the model already: extend is not needed."
            )
        if not hasattr(tokenizer, "convert_tokens_to_ids"):
            raise InvalidTypeError(
                f"tokenizer cannot take tokens: expected a transformers tokenizer, got {type(tokenizer).__name__}. "
                "Pass the tokenizer of the model."
            )
        seed = check_count(seed, "seed", least=0, most=2**64 - 1)  # what torch takes
        if codebooks is not None:
            if model is None:
                raise InvalidTypeError(
                    "codebooks need a model: expected a model whose rows they initialise, got None. Pass both."
                )
            codebooks = check_codebooks(codebooks, self.codebook_sizes)
        names = [self._names(level) for level in range(self.n_levels)]
        missing = missing_levels(tokenizer, names)
        if model is not None:
            check_model(model, len(tokenizer) + sum(self.codebook_sizes[level] for level in missing), resize=resize)
        # On a copy (0.3 s for 150,000 tokens), since tokens cannot be taken back: a tokenizer that has them passes for
        # one whose model has their rows.
        extended = copy.deepcopy(tokenizer) if missing else tokenizer
        new_names = [name for level in missing for name in names[level]]
        add_tokens(extended, new_names)
        level_tokens = tuple(np.asarray(extended.convert_tokens_to_ids(level), np.int64) for level in names)
        # The first and the last code of each level: tokens added in one call are all whole, or none is.
        for code in (0, -1):
            text = "".join(level[code] for level in names)
            check_encoding(extended, text, [int(tokens[code]) for tokens in level_tokens])
        if model is not None:
            n_old = grow(model, max(len(extended), 1 + max(int(tokens.max()) for tokens in level_tokens)))
            new = [level for level, tokens in enumerate(level_tokens) if level in missing or tokens.max() >= n_old]
            if codebooks is not None and not new and not are_initial(model, level_tokens, codebooks, seed=seed):
                warnings.warn(
                    "codebooks are not used: expected a tokenizer or a model without the tokens, got both with them. "
                    "Their rows stay, as they may be trained; extend tokenizer and model in one call to fill them.",
                    stacklevel=2,
                )
            rows = [level_tokens[level] for level in new]
            centroids = None if codebooks is None else [codebooks[level] for level in new]
            initialise(model, rows, centroids, n_old=n_old, seed=seed)
        add_tokens(tokenizer, new_names)
        self._set_tokens(level_tokens)
        self.eos_token_id = tokenizer.eos_token_id
        return self

    def tied_to(self, sids: Any, view: str | None = None) -> Self:
        """Return this vocabulary tied to the present generation of a catalogue; token ids are shared, not copied.

        Whoever generates with it refuses a trie of another catalogue, view or generation, whose ranks mean other items.
        Codes stay tokens of the same ids, so a model needs no new vocabulary when items come and go; whether it knows
        the IDs of a later generation, ``sids.check_pair(model=model)`` tells. Then tie the vocabulary anew.

        Parameters
        ----------
        sids : SemanticIds
        view : str, optional
            Required when the catalogue has several views.

        Returns
        -------
        vocab : SidVocabulary

        Raises
        ------
        InvalidValueError
            If the catalogue has codes without a token.
        InvalidTypeError
            If `sids` is no catalogue.

        Examples
        --------
        >>> import semid
        >>> sids = semid.SemanticIds(["ring", "bell"], [[1, 2], [0, 3]], codebook_sizes=[2, 4])
        >>> vocab = SidVocabulary.from_token_ids([[4, 5], [6, 7, 8, 9]]).tied_to(sids)
        >>> vocab.generation, vocab.catalogue == sids.trie().fingerprint
        (0, True)
        """
        if not hasattr(sids, "check_pair"):
            raise InvalidTypeError(
                f"sids has a wrong type: expected a SemanticIds, got {type(sids).__name__}. Pass the catalogue."
            )
        sids.check_pair(vocab=self, view=view)
        tied = copy.copy(self)
        trie = sids.trie(view)  # its mark is that of one generation, also while another thread changes the catalogue
        tied.catalogue, tied.generation = trie.fingerprint, trie.generation
        return tied

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the vocabulary to a folder, token ids included."""
        saved = Saved(
            self.codebook_sizes, self.prefixes, self._level_tokens, self.eos_token_id, self.catalogue, self.generation
        )
        write_vocabulary(folder, saved, text=repr(self))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a vocabulary from a folder that `save_pretrained` wrote.

        Raises
        ------
        FormatError
            If the folder is missing, damaged, or holds something else.
        """
        saved = read_vocabulary(folder)
        vocab = cls(saved.codebook_sizes)
        vocab.prefixes, vocab.eos_token_id = saved.prefixes, saved.eos_token_id
        vocab.catalogue, vocab.generation = saved.catalogue, saved.generation
        vocab._set_tokens(saved.level_tokens)
        return vocab

    def _names(self, level: int) -> list[str]:
        return [f"<{self.prefixes[level]}_{level}_{code}>" for code in range(self.codebook_sizes[level])]

    def _set_tokens(self, levels: tuple[Int64Array, ...]) -> None:
        for array in levels:
            array.setflags(write=False)
        self._level_tokens, self._lookups = levels, tuple(Lookup.of(tokens) for tokens in levels)
        self._tables = Tables.of(self._lookups)
        self._highest = tuple(int(lookup.tokens[-1]) for lookup in self._lookups)
