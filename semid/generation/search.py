"""The loop over the levels: features of the model, scores of the codes, children to keep; and what comes out of it."""

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from semid._arrays import DoubleArray, FloatArray, IntArray
from semid._checks import check_count
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.forward import Forward
from semid.generation.head import Head, Tokens
from semid.generation.requests import Part, Settings, check_pair
from semid.generation.sampling import KeyArray, draw
from semid.trie import Selection, Trie
from semid.vocabulary import SidVocabulary

__all__ = ["BeamOutput", "check_numbers", "read_beams", "search"]


class BeamOutput(NamedTuple):
    """The best items of each request, best first.

    Attributes
    ----------
    items : ndarray of shape (batch, num_return), dtype int64
        Ranks in the trie; -1 in empty slots. `SemanticIds.items_at` turns them into item ids.
    codes : ndarray of shape (batch, num_return, n_levels), dtype int64
        Their semantic IDs; -1 in empty slots.
    scores : ndarray of shape (batch, num_return), dtype float32
        Summed log-probabilities; -inf in empty slots.
    n_valid : ndarray of shape (batch,), dtype int64
        Slots that hold an item; they come first.
    outside : ndarray of shape (batch, num_return), dtype float32, or None
        Only with ``generate(..., outside=True)``: the probability that the model, free to write any token at each level
        of this ID, would have left the codes of the level somewhere; NaN in empty slots. Near 0, scores with
        ``normalize="window"`` are those with ``normalize="full"``.
    """

    items: IntArray
    codes: IntArray
    scores: FloatArray
    n_valid: IntArray
    outside: FloatArray | None = None

    @classmethod
    def empty(cls, batch: int, num_return: int, n_levels: int, *, outside: bool = False) -> Self:
        """Return an output without a single item."""
        return cls(
            np.full((batch, num_return), -1, np.int64),
            np.full((batch, num_return, n_levels), -1, np.int64),
            np.full((batch, num_return), -np.inf, np.float32),
            np.zeros(batch, np.int64),
            np.full((batch, num_return), np.nan, np.float32) if outside else None,
        )

    def put(self, rows: IntArray, found: "BeamOutput") -> None:
        """Overwrite some rows with those of another output."""
        for whole, part in zip(self._asdict().values(), found, strict=True):
            if whole is not None:
                whole[rows] = part

    @classmethod
    def from_ranks(cls, trie: Trie, ranks: IntArray, scores: FloatArray) -> Self:
        """Look the codes up and pad; `ranks` (batch, num_return) has its -1 entries last."""
        if min(ranks[:, -1].tolist(), default=0) >= 0:  # nothing to pad
            n_valid = np.full(len(ranks), ranks.shape[1], np.int64)
            return cls(ranks, trie.codes_of(ranks).astype(np.int64), scores, n_valid)
        valid = ranks >= 0
        codes = np.full((*ranks.shape, trie.n_levels), -1, np.int64)
        codes[valid] = trie.codes_of(ranks[valid])
        return cls(ranks, codes, np.where(valid, scores, np.float32(-np.inf)), valid.sum(axis=1))


def read_beams(
    sequences: Any, *, trie: Trie, vocab: SidVocabulary, prompt_len: int, num_return: int = 1, scores: Any = None
) -> BeamOutput:
    """Read what ``model.generate`` returned: drop duplicates, dead beams and everything that is no item.

    With more beams than the catalogue has items, Hugging Face fills up with repetitions and leftovers.

    Parameters
    ----------
    sequences : array-like or torch tensor of shape (batch * num_return, length), integers
        Token ids, prompt included; ``sequences`` of the output of ``generate``.
    trie : Trie
    vocab : SidVocabulary
    prompt_len : int
        Columns before the first generated token: the (padded) prompt length, or 1 for an encoder-decoder. With a
        smaller number, what stands there is no item, and ``n_valid`` is 0.
    num_return : int, default=1
        Rows per request: ``num_return_sequences``.
    scores : array-like or torch tensor of shape (batch * num_return,), optional
        ``sequences_scores``, taken over as they are: divided by the number of generated tokens, unless ``generate`` ran
        with ``length_penalty=0.0``. Default: 0 for each item.

    Returns
    -------
    BeamOutput

    Raises
    ------
    InvalidValueError
        If trie and vocabulary do not belong together, shapes disagree, `prompt_len` is negative, sequences are shorter
        than it, or `num_return` is below 1.
    InvalidTypeError
        If an argument is of another type.
    """
    check_pair(trie, vocab)
    prompt_len = check_count(prompt_len, "prompt_len", least=0, remedy="Pass input_ids.shape[1].")
    num_return = check_count(num_return, "num_return", remedy="Pass num_return_sequences.")
    tokens = _as_array(sequences, "sequences")
    if tokens.ndim != 2 or len(tokens) % num_return:
        raise InvalidValueError(
            f"sequences have a wrong shape: expected (batch * {num_return}, length), got {tokens.shape}. "
            "Pass num_return_sequences as num_return."
        )
    if tokens.shape[1] < prompt_len:
        raise InvalidValueError(
            f"prompt_len is too large: expected at most {tokens.shape[1]}, got {prompt_len}. "
            "It is the padded length of the prompt, or 1 for an encoder-decoder."
        )
    given = np.zeros(len(tokens), np.float32) if scores is None else _as_array(scores, "scores").astype(np.float32)
    if given.shape != (len(tokens),):
        raise InvalidValueError(
            f"scores have a wrong shape: expected ({len(tokens)},), got {given.shape}. Pass sequences_scores."
        )
    generated = tokens[:, prompt_len : prompt_len + trie.n_levels]
    ranks: IntArray = np.full(len(tokens), -1, np.int64)
    if generated.shape[1] == trie.n_levels:
        ranks = trie.rank(vocab.to_codes(generated, errors="ignore"))
    by_request = np.where(np.isfinite(given), ranks, -1).reshape(-1, num_return)
    found: IntArray = np.full(by_request.shape, -1, np.int64)
    kept: FloatArray = np.full(by_request.shape, -np.inf, np.float32)
    for request, (row, row_scores) in enumerate(zip(by_request, given.reshape(-1, num_return), strict=True)):
        _, first = np.unique(row, return_index=True)  # the first of equal items is the best
        first = np.sort(first[row[first] >= 0])
        found[request, : len(first)] = row[first]
        kept[request, : len(first)] = row_scores[first]
    return BeamOutput.from_ranks(trie, found, kept)


def _as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """Return numbers as an array; those of a tensor that numpy does not know, as float32."""
    if isinstance(values, torch.Tensor):
        values = (values.float() if values.is_floating_point() else values).cpu()
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise InvalidTypeError(
            f"{name} have a wrong type: expected numbers in rows of one length, got {type(values).__name__}. "
            f"Pass the {name if name == 'sequences' else 'sequences_scores'} that generate returns."
        )
    return array


class Beams(NamedTuple):
    """The live beams of requests: arrays of shape (requests, width), empty slots last.

    Attributes
    ----------
    nodes : ndarray, dtype int64
        -1 in empty slots.
    rows, codes : ndarray, dtype int64
        The beam of the step before and the code that it was continued by; 0 in empty slots.
    scores : ndarray, dtype float32
        Summed log-probabilities.
    inside : ndarray, dtype float32, or None
        With ``outside=True``, the log-probability that the levels so far are codes of theirs, whichever.
    drawn, perturbed : ndarray, dtype float64, or None
        With ``do_sample=True``, ``log_probs`` and ``perturbed`` of `sampling.Draw`.
    """

    nodes: IntArray
    rows: IntArray
    codes: IntArray
    scores: FloatArray
    inside: FloatArray | None = None
    drawn: DoubleArray | None = None
    perturbed: DoubleArray | None = None

    @classmethod
    def roots(cls, requests: int, width: int, settings: Settings) -> Self:
        """Return beams that are all at the root."""
        shape = (requests, width)
        nodes, rows, codes = np.zeros((3, *shape), np.int64)
        scores, inside = np.zeros((2, *shape), np.float32)
        drawn, perturbed = np.zeros((2, *shape)) if settings.do_sample else (None, None)
        return cls(nodes, rows, codes, scores, inside if settings.outside else None, drawn, perturbed)

    def put(self, requests: IntArray, beams: "Beams") -> None:
        """Overwrite the beams of some requests."""
        whole: Any
        for whole, own in zip(self, beams, strict=True):
            if whole is not None:
                whole[requests] = own

    def take(self, requests: Any) -> "Beams":
        """Return the beams of some requests, or some slots of all."""
        arrays: Any = (None if array is None else array[requests] for array in self)
        return Beams(*arrays)

    def n_live(self) -> int:
        """Return the largest number of live beams of a request."""
        # Mostly no slot is empty, which the last ones tell. A list, since after a model's pass nothing of numpy is left
        # in the processor's caches: each of its functions takes 30 to 60 microseconds, and a short list 5.
        n_slots: int = self.nodes.shape[1]
        return n_slots if min(self.nodes[:, -1].tolist()) >= 0 else int((self.nodes >= 0).sum(axis=1).max())


def search(
    forward: Forward,
    head: Head,
    parts: list[Part],
    tokens: dict[int, list[Tokens]],
    settings: Settings,
    *,
    n_levels: int,
    keys: KeyArray | None = None,
) -> BeamOutput:
    """Run a search whose arguments have been checked; see `generate`.

    Parameters
    ----------
    forward : Forward
    head : Head
        Reads the features that `forward` returns.
    parts : list of Part
    tokens : dict of int to list of Tokens
        The tokens of each level by the `id` of the vocabulary.
    settings : Settings
    n_levels : int
    keys : ndarray of shape (batch, n_levels), dtype uint64, optional
        Given for draws, see `sampling.row_keys`; without them the best are kept.
    """
    beams = Beams.roots(forward.batch, 1, settings)
    features = forward.prompt()
    for depth in range(n_levels):
        shape, norm = beams.nodes.shape, None
        if features.ndim != 2 or len(features) != beams.nodes.size:
            raise InvalidValueError(
                f"the model's output has a wrong shape: expected {beams.nodes.size} rows at level {depth}, got shape "
                f"{tuple(features.shape)}. Remove the hook or wrapper that changes it."
            )
        if settings.normalize == "full" or settings.outside:
            norm = head.log_normalizer(features).view(shape)
        features = features.view(*shape, -1)
        found = []
        for part in parts:
            own, own_norm, own_beams = features, norm, beams
            if len(parts) > 1:
                at = torch.from_numpy(part.rows).to(features.device)
                own, own_beams = features[at], beams.take(part.rows)
                own_norm = None if norm is None else norm[at.to(norm.device)]
            logits = head.logits(own.flatten(0, 1), tokens[id(part.vocab)][depth]).view(*own.shape[:2], -1)
            row_keys = None if keys is None else keys[part.rows, depth]
            found.append(_continue(part, own_beams, logits, own_norm, settings, depth=depth, keys=row_keys))
        beams = _together(parts, found, settings)
        width = beams.n_live()
        if width == 0:
            break
        if depth + 1 < n_levels:
            if width < settings.num_beams:  # slots that no request fills get no row of the model
                beams = beams.take(np.s_[:, :width])
            features = forward.step(beams.rows, _chosen_tokens(parts, beams.codes, depth))
    return _output(parts, beams, settings, n_levels)


def check_numbers(values: FloatArray, depth: int) -> None:
    """Raise if a logit or log-probability is NaN or infinite; minus infinity is a token that is closed."""
    if not (values < np.inf).all():
        raise InvalidValueError(
            f"the model's logits are not numbers: expected numbers at level {depth}, got "
            f"{'nan' if np.isnan(values).any() else 'inf'}. "
            "Check its weights; float16 may overflow where bfloat16 does not."
        )


def _together(parts: list[Part], found: list[Beams], settings: Settings) -> Beams:
    """Return the beams of all requests, from those of each part."""
    if len(parts) == 1:
        return found[0]  # it has all rows, in their order
    kept = Beams.roots(sum(len(part.rows) for part in parts), settings.num_beams, settings)
    for part, own in zip(parts, found, strict=True):
        kept.put(part.rows, own)
    return kept


def _continue(
    part: Part,
    beams: Beams,
    logits: torch.Tensor,
    norm: torch.Tensor | None,
    settings: Settings,
    *,
    depth: int,
    keys: KeyArray | None,
) -> Beams:
    """Return what the requests of a part go on with.

    `logits` of shape (requests, width, n_tokens) are those of the level; `norm` of shape (requests, width) is the
    logarithm of the sum over the vocabulary.
    """
    k, children = settings.num_beams, None
    if settings.do_sample or settings.normalize == "allowed":
        children = _children(part, logits, beams.nodes, depth=depth, k=k)
    log_probs = _log_probs(part, logits, norm, children, beams.nodes, settings.normalize, depth)
    inside = None
    if keys is None:
        scores, rows, codes, nodes = part.trie.select(
            log_probs, beams.scores, beams.nodes, depth=depth, k=k, exclude=part.excluded, candidates=part.candidates
        )
        rows, drawn, perturbed = np.maximum(rows, 0), None, None
    else:
        assert children is not None and beams.drawn is not None and beams.perturbed is not None
        rows, codes, nodes, drawn, perturbed = draw(children, beams.drawn, beams.perturbed, keys, k=k)
        request = np.arange(len(rows))[:, None]
        scores = beams.scores[request, rows] + log_probs[request, rows, codes]
    if beams.inside is not None:
        assert norm is not None
        inside = beams.inside + (logits.logsumexp(dim=2) - norm).cpu().numpy()
        inside = np.take_along_axis(inside, rows, axis=1)
    return Beams(nodes, rows, np.maximum(codes, 0), scores, inside, drawn, perturbed)


def _children(part: Part, logits: torch.Tensor, nodes: IntArray, *, depth: int, k: int) -> Selection:
    """Return all children of the beams that lead to an item that their request may return, in `k` slots or more.

    Their scores are their logits.
    """
    values = logits[..., : part.trie.codebook_sizes[depth]].cpu().numpy()
    check_numbers(values[nodes >= 0], depth)  # `select` drops scores that are not numbers
    row_starts, _ = part.trie.allowed(nodes.reshape(-1), depth=depth)
    most = int(np.diff(row_starts).reshape(nodes.shape).sum(axis=1).max())
    return part.trie.select(
        values, np.zeros(nodes.shape, np.float32), nodes, depth=depth, k=max(k, most), exclude=part.excluded,
        candidates=part.candidates,
    )  # fmt: skip


def _log_probs(
    part: Part,
    logits: torch.Tensor,
    norm: torch.Tensor | None,
    children: Selection | None,
    nodes: IntArray,
    normalize: str,
    depth: int,
) -> FloatArray:
    """Return the log-probabilities of the trie's codes of a level, shape (requests, width, codebook_size)."""
    size = part.trie.codebook_sizes[depth]
    if normalize == "full":
        assert norm is not None
        norm = norm.to(logits.device)
        _check_beams(norm.cpu().numpy(), nodes, depth)  # a sum with a term that is not a number is not a number
        return (logits[..., :size] - norm[..., None]).cpu().numpy()
    if normalize == "allowed":
        assert children is not None
        request, slot = np.nonzero(children.nodes >= 0)
        closed = np.ones(logits.shape, np.bool_)
        closed[request, children.rows[request, slot], children.codes[request, slot]] = False
        logits = logits.masked_fill(torch.from_numpy(closed).to(logits.device), -torch.inf)
        # A beam without children has no probabilities, and needs none.
        return logits.log_softmax(dim=2)[..., :size].nan_to_num(nan=-torch.inf).cpu().numpy()
    log_probs: FloatArray = logits.log_softmax(dim=2)[..., :size].cpu().numpy()
    _check_beams(log_probs[..., 0], nodes, depth)  # one logit that is not a number makes the whole row not a number
    return log_probs


def _check_beams(values: FloatArray, nodes: IntArray, depth: int) -> None:
    """Raise if the value of a live beam is NaN or infinite; both of shape (requests, width)."""
    # Python adds some hundred numbers up before numpy has begun, see `Beams.n_live`; NaN is not below infinity.
    if not sum(values.ravel().tolist()) < np.inf:
        check_numbers(values[nodes >= 0], depth)


def _chosen_tokens(parts: list[Part], codes: IntArray, depth: int) -> IntArray:
    """Return the token of each chosen code."""
    if len(parts) == 1:
        return parts[0].vocab.level_tokens[depth][codes]
    tokens: IntArray = np.empty(codes.shape, np.int64)
    for part in parts:
        tokens[part.rows] = part.vocab.level_tokens[depth][codes[part.rows]]
    return tokens


def _output(parts: list[Part], beams: Beams, settings: Settings, n_levels: int) -> BeamOutput:
    """Return ranks, the nodes of the last level, and what belongs to them."""
    best = beams.take(np.s_[:, : settings.num_return])
    if len(parts) == 1:
        return _output_of(parts[0], best)
    out = BeamOutput.empty(len(best.nodes), settings.num_return, n_levels, outside=settings.outside)
    for part in parts:
        out.put(part.rows, _output_of(part, best.take(part.rows)))
    return out


def _output_of(part: Part, beams: Beams) -> BeamOutput:
    found = BeamOutput.from_ranks(part.trie, beams.nodes, beams.scores)
    if beams.inside is None:
        return found
    lost = -np.expm1(np.minimum(beams.inside, 0))
    return found._replace(outside=np.where(beams.nodes >= 0, lost, np.float32(np.nan)))
