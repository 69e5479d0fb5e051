"""The language model's side of semantic IDs: (level, code) <-> token."""

import copy
import hashlib
import os
import warnings
from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np

from semid._arrays import Array, Int64Array
from semid._checks import check_count, check_errors, check_sizes, check_views, shown
from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.io.persistence import read_folder, write_folder
from semid.vocabulary.checks import (
    check_code_rows,
    check_eos,
    check_n_shared,
    check_rows,
    check_token_ids,
    check_token_prefixes,
    levels_in,
)
from semid.vocabulary.lookup import Lookup, Tables

__all__ = ["SidVocabulary"]


@final
class SidVocabulary:
    """One token per code of each level, for one view of the items.

    A token is written ``<prefix_level_code>``, such as ``<sid_0_17>``. The vocabulary knows the token ids once `extend`
    has added the tokens to a tokenizer; until then, it knows only their names.

    Parameters
    ----------
    codebook_sizes : sequence of int
        Number of codes of each level.
    prefix : str or sequence of str, default="sid"
        First part of the token names, for all levels or one per level. Vocabularies with the same names share their
        tokens; see `for_views`.

    Attributes
    ----------
    codebook_sizes : tuple of int
    n_levels : int
    prefixes : tuple of str
        One per level; empty for a vocabulary made by `from_token_ids`.
    eos_token_id : int or None
        The token that ends a text; `extend` sets it to that of the tokenizer.
    level_tokens : tuple of ndarray of shape (codebook_size,), dtype int64
        The token id of each code, by level.
    catalogue : str or None
        Fingerprint of the trie of the catalogue that the vocabulary is tied to; see `tied_to`.
    generation : int or None
        Generation of that catalogue.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If a size is not a positive integer, or a prefix is not a name or not one per level.

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
        self.prefixes = check_token_prefixes(prefix, len(self.codebook_sizes))
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
            The token id of each code, by level. Ids may be in any order and have gaps, and levels may share ids.
        eos_token_id : int, optional
            The token that ends a text; not a token of a code.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If a level is empty, repeats a token, or holds a negative or fractional id, or if the end token is a token
            of a code.
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
        """Make one vocabulary per view; they share the tokens of the first `n_shared` levels.

        In GenSAR (arXiv:2504.05730) an item has a semantic and a collaborative ID that begin with the same codes. A
        token of a shared level is ``<sid_0_17>`` in both; one of another level is ``<sid-semantic_1_4>``.

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
        """SHA-256 of codebook sizes, prefixes and token ids, in hexadecimal."""
        digest = hashlib.sha256(repr((self.codebook_sizes, self.prefixes)).encode())
        for tokens in self._level_tokens:
            digest.update(np.ascontiguousarray(tokens, "<i8").tobytes())
        return digest.hexdigest()

    @property
    def level_tokens(self) -> tuple[Int64Array, ...]:
        """Token id of each code, in one read-only array per level."""
        if not self._level_tokens:
            raise InvalidValueError(
                "the vocabulary has no token ids yet: expected a tokenizer that knows the tokens, got none. "
                "Call extend(tokenizer) first."
            )
        return self._level_tokens

    @property
    def highest_tokens(self) -> tuple[int, ...]:
        """The largest token id of each level; empty before `extend`."""
        return self._highest

    @property
    def tables(self) -> Tables | None:
        """The codes by token id, for kernels; None before `extend`, or if the tokens of a level lie far apart."""
        return self._tables

    # The three ways to write an ID: names, text, token ids.

    def tokens_of(self, codes: Any) -> list[Any]:
        """Return the token names of codes.

        Parameters
        ----------
        codes : array-like of shape (..., depth), integers
            Whole IDs, or prefixes of one depth.

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
        codes = check_code_rows(codes, self.codebook_sizes)
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
        codes = check_code_rows(codes, self.codebook_sizes)
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
            What to do with a token that does not belong to its level: raise, or return -1.

        Returns
        -------
        codes : ndarray of shape (..., depth), dtype int64

        Raises
        ------
        InvalidValueError
            If a token does not belong to its level (the message names it), or there are too many levels.
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
                "Cut off the prompt and the end token first."
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

        Tokens that the tokenizer has from an earlier call (a saved tokenizer, a level shared by two views) stay as they
        are. If the model has rows for them, these rows keep their values, even with `codebooks`: they may be trained.
        Many models have more rows than tokens, so extend a tokenizer and a new model in one call.

        The rows of all other levels, in the input and output embeddings, get the mean of the existing rows plus a
        deviation of the same root-mean-square length:

        - with `codebooks`, the centroids of the level minus their mean, times a random matrix with orthonormal rows or
          columns. Near codes get near rows; if the hidden size is at least the dim of the centroids, all distances are
          kept up to a factor.
        - without, normal noise with the standard deviation of each dimension.

        After an error, tokenizer and vocabulary are as before; so is the model, unless its own resizing failed.

        Parameters
        ----------
        tokenizer : transformers tokenizer
            Changed in place.
        model : transformers model, optional
            Changed in place: its embeddings grow if they have fewer rows than the tokenizer has tokens.
        codebooks : sequence of array-like of shape (codebook_size, dim), optional
            Centroids, one array per level. If no row is initialised from them, a UserWarning is issued.
        resize : bool, default=True
            Allow the model's embeddings to grow.
        seed : int, default=0
            Seed of the random matrix and the noise.

        Returns
        -------
        self : SidVocabulary

        Raises
        ------
        InvalidValueError
            If the tokenizer has tokens of a level that are not exactly its tokens, or are ordinary words; if it splits
            the tokens; if the embeddings are too small and must not grow; if codebooks do not have the codebook sizes;
            if the seed is negative.
        InvalidTypeError
            If `model` is not a transformers model, if `codebooks` are not arrays or come without a model, or if the
            seed is not an integer.
        """
        from semid.vocabulary.embeddings import (
            add_tokens,
            are_initial,
            check_codebooks,
            check_embedding_rows,
            check_encoding,
            check_free_ids,
            grow,
            initialise,
            missing_levels,
        )

        if not self.prefixes:
            raise InvalidValueError(
                "the tokens have no names: expected a vocabulary with a prefix, got one made of token ids. "
                "Its tokens are in the model already; extend is not needed."
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
            check_embedding_rows(
                model, len(tokenizer) + sum(self.codebook_sizes[level] for level in missing), resize=resize
            )
        # On a copy (0.3 s for 150,000 tokens), because tokens cannot be removed after an error, and the next call would
        # then take the model's rows for trained ones.
        extended = copy.deepcopy(tokenizer) if missing else tokenizer
        new_names = [name for level in missing for name in names[level]]
        add_tokens(extended, new_names)
        level_tokens = tuple(np.asarray(extended.convert_tokens_to_ids(level), np.int64) for level in names)
        check_free_ids(tokenizer.get_vocab(), names, level_tokens)
        # The first and the last code of each level are enough: tokens added in one call are all kept whole, or none is.
        for code in (0, -1):
            text = "".join(level[code] for level in names)
            check_encoding(extended, text, [int(tokens[code]) for tokens in level_tokens])
        if model is not None:
            n_old = grow(model, max(len(extended), 1 + max(int(tokens.max()) for tokens in level_tokens)))
            new = [level for level, tokens in enumerate(level_tokens) if level in missing or tokens.max() >= n_old]
            if codebooks is not None and not new and not are_initial(model, level_tokens, codebooks, seed=seed):
                warnings.warn(
                    "codebooks are not used: expected a tokenizer or a model without the tokens, got both with them. "
                    "Their rows stay, as they may be trained. Extend tokenizer and model in one call to fill them.",
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
        """Return this vocabulary, tied to the present generation of a catalogue; token ids are shared, not copied.

        Generation with a tied vocabulary refuses a trie of another catalogue, view or generation, because its ranks
        mean other items. The tokens do not depend on the items, so a model needs no new vocabulary when the catalogue
        changes: check with ``sids.check_pair(model=model)`` that it knows the IDs, and tie the vocabulary again.

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
            If `sids` is not a catalogue.

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
        # A trie is of one generation, even if another thread changes the catalogue meanwhile.
        trie = sids.trie(view)
        tied.catalogue, tied.generation = trie.fingerprint, trie.generation
        return tied

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the vocabulary to a folder, token ids included."""
        arrays: dict[str, Any] = {f"level_{level}": tokens for level, tokens in enumerate(self._level_tokens)}
        arrays["codebook_sizes"] = np.asarray(self.codebook_sizes, np.int64)
        config = {name: getattr(self, name) for name in ("eos_token_id", "catalogue", "generation")}
        config["prefixes"] = list(self.prefixes)
        card = f"# Semantic ID vocabulary\n\n{self!r}\n\nLoad it with `semid.SidVocabulary.from_pretrained`."
        write_folder(folder, class_name="SidVocabulary", config=config, arrays=arrays, card=card)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a vocabulary from a folder that `save_pretrained` wrote.

        Raises
        ------
        FormatError
            If the folder is missing, damaged, or holds something else.
        """
        config, arrays = read_folder(folder, class_name="SidVocabulary")
        try:
            return cls._restored(config, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{folder} is damaged: expected the levels of a vocabulary, got {type(error).__name__}: {error}. "
                "Save it again."
            ) from error

    @classmethod
    def _restored(cls, config: dict[str, Any], arrays: dict[str, Array]) -> Self:
        vocab = cls(arrays.pop("codebook_sizes").tolist())
        levels = enumerate(vocab.codebook_sizes) if arrays else ()  # no tokens before `extend`
        tokens = tuple(check_token_ids(arrays.pop(f"level_{level}"), level, size) for level, size in levels)
        prefixes = config.pop("prefixes")
        # A vocabulary made of token ids has no names.
        vocab.prefixes = check_token_prefixes(prefixes, vocab.n_levels) if prefixes or not tokens else ()
        vocab.eos_token_id = check_eos(config.pop("eos_token_id"), tokens)
        # Folders of earlier versions do not have the last two.
        vocab.catalogue, vocab.generation = config.pop("catalogue", None), config.pop("generation", None)
        if config or arrays:
            raise ValueError(f"unknown entries {shown([*config, *arrays])}")
        if not isinstance(vocab.catalogue, str | None) or not isinstance(vocab.generation, int | None):
            raise TypeError(f"a tie to catalogue {vocab.catalogue!r} of generation {vocab.generation!r}")
        vocab._set_tokens(tokens)
        return vocab

    def _names(self, level: int) -> list[str]:
        return [f"<{self.prefixes[level]}_{level}_{code}>" for code in range(self.codebook_sizes[level])]

    def _set_tokens(self, levels: tuple[Int64Array, ...]) -> None:
        for array in levels:
            array.setflags(write=False)
        self._level_tokens, self._lookups = levels, tuple(Lookup.of(tokens) for tokens in levels)
        self._tables = Tables.of(self._lookups)
        self._highest = tuple(int(lookup.tokens[-1]) for lookup in self._lookups)
