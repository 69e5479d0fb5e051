"""Exact log-probabilities of given candidates: their trie is laid out as a tree under the prompt."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from semid._arrays import FloatArray, IntArray
from semid._checks import check_ranks
from semid.errors import InvalidTypeError
from semid.generation.beam import last_token
from semid.generation.forward import Forward
from semid.generation.head import Head
from semid.generation.inputs import batch_of, check_model
from semid.generation.probe import open_forward
from semid.generation.requests import as_lists, check_tries
from semid.generation.search import check_numbers
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["score_items"]


@torch.inference_mode()
def score_items(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    trie: Trie | Sequence[Trie],
    vocab: SidVocabulary | Sequence[SidVocabulary],
    candidates: Sequence[Iterable[int]],
) -> FloatArray:
    """Return the log-probability of each candidate after its prompt: no beams, and so none of their error.

    What teacher forcing of one candidate after the other gives, but the prompt is read once and all candidates in one
    forward pass. A decoder-only model reads them by tree attention, what they begin with in common once; the decoder of
    an encoder-decoder reads each prefix of all levels but the last as a row. A decoder-only model that refuses trees
    takes a pass per level. GenSAR (arXiv:2504.05730) ranks 1 + 99 candidates so.

    Parameters
    ----------
    model, inputs, trie, vocab
        As for `generate`; `trie` and `vocab` may be lists, one per row.
    candidates : array-like of shape (batch, n_candidates), or sequence of batch sequences of int
        Ranks; -1 is padding. An item may come more than once.

    Returns
    -------
    scores : ndarray of shape (batch, n_candidates), dtype float32
        Summed log-probabilities over the whole vocabulary, as `generate` returns with ``normalize="full"``; -inf for
        padding, also where a row has fewer candidates than another.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `generate` does.

    Examples
    --------
    >>> import torch, semid
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    >>> model = GPT2LMHeadModel(config).eval()
    >>> trie = semid.Trie.from_codes([[0, 1], [0, 2], [1, 0]])
    >>> vocab = semid.SidVocabulary.from_token_ids([[4, 5], [6, 7, 8]])
    >>> inputs = {"input_ids": torch.tensor([[1, 2]])}
    >>> semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=[[2, 0]]).shape
    (1, 2)
    """
    batch = batch_of(inputs)
    tries, vocabs = check_tries(trie, vocab, batch)
    check_model(model, last_token=last_token(vocabs))
    wanted = _check_candidates(candidates, batch)
    for row, own in enumerate(wanted):
        check_ranks(own[own != -1], n_items=tries[row].n_ranks, name="candidates")
    n_levels = tries[0].n_levels
    forward = open_forward(model, inputs, n_levels=n_levels)
    trees = [_tree(own[own != -1], tries[row], vocabs[row]) for row, own in enumerate(wanted)]
    of_items = _score(forward, forward.head, trees, n_levels)
    sums = np.split(of_items, np.cumsum([len(tree.nodes) for tree in trees]))
    scores: FloatArray = np.full((batch, max(len(own) for own in wanted)), -np.inf, np.float32)
    for row, own in enumerate(wanted):
        scores[row, np.flatnonzero(own != -1)] = sums[row][trees[row].items]
    return scores


def _check_candidates(candidates: Any, batch: int) -> list[IntArray]:
    """Return the candidates of each request, padding included."""
    lists = [None] if candidates is None else as_lists(candidates, batch, "candidates")
    if any(own is None for own in lists):
        raise InvalidTypeError(
            f"candidates are missing: expected ranks for each of {batch} requests, got None. Give [] for a request "
            "without any; generate searches all items."
        )
    return [own for own in lists if own is not None]


class _Tree(NamedTuple):
    """The candidates of a request, level by level.

    Attributes
    ----------
    items : ndarray of shape (n_candidates,), dtype int64
        Which of the distinct items each candidate is.
    tokens : ndarray of shape (n_items, n_levels), dtype int64
    nodes : ndarray of shape (n_items, n_levels), dtype int64
        The number of the item's prefix among the prefixes of each length.
    firsts : list of n_levels ndarrays
        The first item below each node of a level.
    """

    items: IntArray
    tokens: IntArray
    nodes: IntArray
    firsts: list[IntArray]


def _tree(ranks: IntArray, trie: Trie, vocab: SidVocabulary) -> _Tree:
    distinct, items = np.unique(ranks, return_inverse=True)
    tokens = vocab.to_tokens(trie.codes_of(distinct))
    # Ranks are sorted, and so items with a common prefix are neighbours: a prefix begins where one of its tokens does.
    starts = np.ones(tokens.shape, np.bool_)
    starts[1:, 0] = False
    if trie.n_levels > 1:
        changed = tokens[1:, :-1] != tokens[:-1, :-1]
        starts[1:, 1:] = np.logical_or.accumulate(changed, axis=1)
    nodes = starts.cumsum(axis=0) - 1
    return _Tree(items, tokens, nodes, [np.flatnonzero(starts[:, depth]) for depth in range(trie.n_levels)])


def _score(forward: Forward, head: Head, trees: list[_Tree], n_levels: int) -> FloatArray:
    """Return the score of each distinct item of all requests, one after the other."""
    features = [forward.prompt()]
    widths = [1, *(max(1, *(len(tree.firsts[depth]) for tree in trees)) for depth in range(1, n_levels))]
    parents: list[IntArray] = [np.zeros((len(trees), width), np.int64) for width in widths[1:]]
    tokens: list[IntArray] = [
        np.zeros((len(trees), width), np.int64) for width in widths[1:]
    ]  # padding is some token of the model
    for row, tree in enumerate(trees):
        for depth in range(1, n_levels):
            first = tree.firsts[depth]
            parents[depth - 1][row, : len(first)] = tree.nodes[first, depth - 1]
            tokens[depth - 1][row, : len(first)] = tree.tokens[first, depth - 1]
    if parents:
        features += forward.levels(parents, tokens)
    total = np.zeros(sum(len(tree.nodes) for tree in trees), np.float32)
    for depth, (level, width) in enumerate(zip(features, widths, strict=True)):
        at = torch.from_numpy(np.concatenate([row * width + tree.nodes[:, depth] for row, tree in enumerate(trees)]))
        wanted = torch.from_numpy(np.concatenate([tree.tokens[:, depth] for tree in trees]))
        at = at.to(level.device)
        logits = head.pick(level[at], wanted)
        log_probs = (logits - head.log_normalizer(level)[at].to(logits.device)).cpu().numpy()
        check_numbers(log_probs, depth)
        total += log_probs
    return total
