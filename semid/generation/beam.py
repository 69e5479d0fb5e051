"""Beam search over the trie: the prompt once per request, then only beams that lead to items."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from semid.errors import InvalidValueError
from semid.generation.forward import Forward
from semid.generation.head import Head, Tokens
from semid.generation.inputs import batch_of, check_count, check_model
from semid.generation.output import BeamOutput
from semid.generation.probe import Abilities, abilities, head_of, open_forward
from semid.generation.processor import check_vocab
from semid.generation.routing import Part, check_tries, route
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["check_normalize", "check_numbers", "generate", "last_token", "prepare", "run", "search"]

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float32]

NORMALIZERS = ("full", "window", "allowed")


@torch.inference_mode()
def generate(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    trie: Trie | Sequence[Trie],
    vocab: SidVocabulary | Sequence[SidVocabulary],
    num_beams: int,
    normalize: str = "full",
    exclude: Sequence[Iterable[int] | None] | None = None,
    candidates: Sequence[Iterable[int] | None] | None = None,
    num_return: int | None = None,
    outside: bool = False,
) -> BeamOutput:
    """Return the best items for each prompt.

    The same items in the same order as ``model.generate`` with `num_beams` beams, a `SidLogitsProcessor` and
    ``max_new_tokens=n_levels`` returns, less its repetitions; the prompt is read once per request instead of once per
    beam, and no beam is spent on anything but items. Other settings of the model's ``generation_config``, such as
    penalties, are not applied.

    Parameters
    ----------
    model : transformers model
        Decoder-only or encoder-decoder, in evaluation mode; it is not changed. When a model is first met, a few tokens
        tell which of the faster ways it can go; what none of them suits runs the plain way, with the same result.
    inputs : mapping of str to torch.Tensor of shape (batch, length)
        ``input_ids`` and, unless nothing is padded, ``attention_mask``, as a tokenizer returns them; padded on the left
        for a decoder-only model. For an encoder-decoder also ``decoder_input_ids``, if the answer begins with
        more than the start token; all of its rows have one length, and its first column is the start token.
    trie : Trie or sequence of batch tries
        One for all rows, or one per row, such as search and recommendation requests in one batch; of one depth.
    vocab : SidVocabulary or sequence of batch vocabularies
    num_beams : int
        May exceed the number of items.
    normalize : {"full", "window", "allowed"}, default="full"
        Which probabilities a score sums up: over the whole vocabulary of the model, as Hugging Face does; over the
        codes of the level, for which the rest of the output layer is not computed; or over the codes that may follow,
        which favours IDs whose prefixes few items share.
    exclude : sequence of batch sequences of int, optional
        Ranks that each request must not return, such as the items that a user has seen. None and entries of -1 exclude
        nothing, so that the ``items`` of an earlier output may be passed to get the next best.
    candidates : sequence of batch sequences of int, optional
        Ranks that each request may return; None for all items. Entries of -1 are padding.
    num_return : int, optional
        Items per request, at most `num_beams`; default: `num_beams`.
    outside : bool, default=False
        Report in ``out.outside`` how much probability lies outside the codes of the levels. It says when
        ``normalize="window"`` is safe, and costs what ``normalize="full"`` costs.

    Returns
    -------
    BeamOutput
        ``items, codes, scores, n_valid, outside``.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If an argument is wrong, the model is in training mode or keeps no cache, the vocabulary does not fit it, a
        prompt is too long for it, or its logits are not numbers.
    """
    prepared = prepare(model, vocab)
    return run(
        model, inputs, prepared, trie=trie, vocab=vocab, num_beams=num_beams, normalize=normalize, exclude=exclude,
        candidates=candidates, num_return=num_return, outside=outside,
    )  # fmt: skip


class Prepared(NamedTuple):
    """What a search needs of a model and its vocabularies, whatever the prompts are.

    Attributes
    ----------
    found : Abilities
    head : Head
    tokens : dict of int to list of Tokens
        The tokens of each level, by the `id` of the vocabulary.
    """

    found: Abilities
    head: Head
    tokens: dict[int, list[Tokens]]


def prepare(model: Any, vocab: SidVocabulary | Sequence[SidVocabulary]) -> Prepared:
    """Check that a model has the tokens of vocabularies, find out what it can do, and lay out its output layer."""
    vocabs: Sequence[Any] = vocab if isinstance(vocab, list | tuple) else [vocab]
    different: dict[int, SidVocabulary] = {id(one): one for one in vocabs}
    for one in different.values():
        check_vocab(one)
    check_model(model, last_token=last_token(list(different.values())))
    found = abilities(model)
    tokens = {
        at: [Tokens(torch.from_numpy(level.copy())) for level in one.level_tokens] for at, one in different.items()
    }
    return Prepared(found, head_of(model, found), tokens)


def run(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    prepared: Prepared,
    *,
    trie: Trie | Sequence[Trie],
    vocab: SidVocabulary | Sequence[SidVocabulary],
    num_beams: int,
    normalize: str = "full",
    exclude: Sequence[Iterable[int] | None] | None = None,
    candidates: Sequence[Iterable[int] | None] | None = None,
    num_return: int | None = None,
    outside: bool = False,
    encoded: torch.Tensor | None = None,
) -> BeamOutput:
    """Check the arguments of one call of `generate` and run its search; `encoded` is what the encoder wrote already."""
    num_beams = check_count(num_beams, "num_beams")
    num_return = num_beams if num_return is None else check_count(num_return, "num_return", at_most=num_beams)
    check_normalize(normalize)
    tries, vocabs = check_tries(trie, vocab, batch_of(inputs))
    n_levels = tries[0].n_levels
    parts = route(tries, vocabs, candidates=candidates, exclude=exclude)
    forward = open_forward(model, inputs, n_levels=n_levels, found=prepared.found, encoded=encoded)
    return search(
        forward, prepared.head, parts, prepared.tokens, n_levels=n_levels, num_beams=num_beams, num_return=num_return,
        normalize=normalize, outside=outside,
    )  # fmt: skip


def search(
    forward: Forward,
    head: Head,
    parts: list[Part],
    tokens: dict[int, list[Tokens]],
    *,
    n_levels: int,
    num_beams: int,
    num_return: int,
    normalize: str,
    outside: bool = False,
) -> BeamOutput:
    """Run a beam search whose arguments have been checked; see `generate`.

    `tokens` holds the tokens of each level by the `id` of the vocabulary.
    """
    batch = forward.batch
    nodes: IntArray = np.full((batch, 1), -1, np.int64)
    for part in parts:
        nodes[part.rows] = 0
    scores: FloatArray = np.zeros((batch, 1), np.float32)
    inside: FloatArray = np.zeros((batch, 1), np.float32)
    features = forward.prompt()
    for depth in range(n_levels):
        features = features.view(*nodes.shape, -1)
        log_normalizer = head.log_normalizer(features.flatten(0, 1)).view(nodes.shape) if (
            normalize == "full" or outside) else None  # fmt: skip
        step = _Step(batch, num_beams)
        for part in parts:
            whole = len(part.rows) == batch
            of_part = features if whole else features[torch.from_numpy(part.rows).to(features.device)]
            logits = head.logits(of_part.flatten(0, 1), tokens[id(part.vocab)][depth]).view(*of_part.shape[:2], -1)
            norm = None if log_normalizer is None else log_normalizer if whole else log_normalizer[part.rows]
            if norm is not None:
                norm = norm.to(logits.device)
            log_probs = _log_probs(logits, norm, normalize, part.trie, nodes[part.rows], depth)
            check_numbers(log_probs[nodes[part.rows] >= 0], depth)
            step.put(part.rows, part.trie.select(
                log_probs, scores[part.rows], nodes[part.rows], depth=depth, k=num_beams, exclude=part.excluded
            ))  # fmt: skip
            if outside and norm is not None:
                mass = (logits.logsumexp(dim=2) - norm).cpu().numpy()
                rows = np.maximum(step.rows[part.rows], 0)
                step.inside[part.rows] = np.take_along_axis(inside[part.rows] + mass, rows, axis=1)
        scores, nodes, inside = step.scores, step.nodes, step.inside
        if depth + 1 < n_levels:
            # Slots that no request fills get no row of the model; filled ones come first.
            width = max(1, int((nodes >= 0).sum(axis=1).max()))
            scores, nodes, inside = scores[:, :width], nodes[:, :width], inside[:, :width]
            if (nodes < 0).all():
                break
            chosen = np.maximum(step.codes[:, :width], 0)
            features = forward.step(np.maximum(step.rows[:, :width], 0), _chosen_tokens(parts, chosen, depth))
    return _output(parts, nodes[:, :num_return], scores, inside if outside else None, n_levels, num_return)


class _Step:
    """What one step keeps of all parts: arrays of shape (batch, num_beams), as of `Selection`."""

    def __init__(self, batch: int, num_beams: int) -> None:
        self.scores: FloatArray = np.full((batch, num_beams), -np.inf, np.float32)
        self.inside: FloatArray = np.zeros((batch, num_beams), np.float32)
        self.rows, self.codes, self.nodes = (np.full((batch, num_beams), -1, np.int64) for _ in range(3))

    def put(self, at: IntArray, selection: Any) -> None:
        self.scores[at], self.rows[at], self.codes[at], self.nodes[at] = selection


def _chosen_tokens(parts: list[Part], codes: IntArray, depth: int) -> IntArray:
    """Return the token of each chosen code; rows that belong to no part get some token of the model."""
    tokens: IntArray = np.zeros(codes.shape, np.int64)
    for part in parts:
        tokens[part.rows] = part.vocab.level_tokens[depth][codes[part.rows]]
    return tokens


def _log_probs(
    logits: torch.Tensor, log_normalizer: torch.Tensor | None, normalize: str, trie: Trie, nodes: IntArray, depth: int
) -> FloatArray:
    """Return the log-probabilities of the trie's codes of a level, shape (batch, beams, codebook_size)."""
    size = trie.codebook_sizes[depth]
    if normalize == "full":
        assert log_normalizer is not None
        log_probs = logits[..., :size] - log_normalizer[..., None]
    else:
        if normalize == "allowed":
            row_starts, codes = trie.allowed(nodes.reshape(-1), depth=depth)
            closed = np.ones((nodes.size, logits.shape[2]), np.bool_)
            closed[np.repeat(np.arange(nodes.size), np.diff(row_starts)), codes] = False
            logits = logits.masked_fill(torch.from_numpy(closed).view(logits.shape).to(logits.device), -torch.inf)
        log_probs = logits.log_softmax(dim=2)[..., :size]
    return log_probs.cpu().numpy()


def _output(
    parts: list[Part],
    nodes: IntArray,
    scores: FloatArray,
    inside: FloatArray | None,
    n_levels: int,
    num_return: int,
) -> BeamOutput:
    """Return ranks as the caller knows them, and what belongs to them, padded to `num_return`."""
    batch, width = nodes.shape
    out = BeamOutput.empty(batch, num_return, n_levels, outside=inside is not None)
    for part in parts:
        ranks = nodes[part.rows]
        found = BeamOutput.from_ranks(part.trie, ranks, scores[part.rows, :width])
        out.items[part.rows, :width] = part.given(found.items)
        out.codes[part.rows, :width], out.scores[part.rows, :width] = found.codes, found.scores
        out.n_valid[part.rows] = found.n_valid
        if inside is not None and out.outside is not None:
            lost = -np.expm1(np.minimum(inside[part.rows, :width], 0))
            out.outside[part.rows, :width] = np.where(ranks >= 0, lost, np.float32(np.nan))
    return out


def check_normalize(normalize: str) -> None:
    """Raise unless there is such a normaliser."""
    if normalize not in NORMALIZERS:
        raise InvalidValueError(f"normalize is unknown: expected one of {NORMALIZERS}, got {normalize!r}.")


def check_numbers(log_probs: FloatArray, depth: int) -> None:
    """Raise if a log-probability is NaN."""
    if np.isnan(log_probs).any():
        raise InvalidValueError(
            f"the model's logits are not numbers: expected numbers at level {depth}, got nan. "
            "Check its weights; float16 may overflow where bfloat16 does not."
        )


def last_token(vocabs: Sequence[SidVocabulary]) -> int:
    """Return the largest token id of some vocabularies."""
    return max(int(level.max()) for vocab in {id(v): v for v in vocabs}.values() for level in vocab.level_tokens)
