"""The loop over the levels: features of the model, log-probabilities of the level's codes, the children to keep."""

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from semid.errors import InvalidValueError
from semid.generation.forward import Forward
from semid.generation.head import Head, Tokens
from semid.generation.output import BeamOutput
from semid.generation.routing import Part
from semid.generation.sampling import KeyArray, draw
from semid.generation.settings import Settings
from semid.trie import Selection

__all__ = ["check_numbers", "search"]

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


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
    inside : ndarray, dtype float32
        With ``outside=True``, the log-probability that the levels so far are codes of theirs, whichever.
    drawn, perturbed : ndarray, dtype float64
        With ``do_sample=True``, ``log_probs`` and ``perturbed`` of `sampling.Draw`.
    """

    nodes: IntArray
    rows: IntArray
    codes: IntArray
    scores: FloatArray
    inside: FloatArray
    drawn: DoubleArray
    perturbed: DoubleArray

    @classmethod
    def empty(cls, requests: int, width: int) -> Self:
        """Return slots without a beam."""
        shape = (requests, width)
        rows, codes = np.zeros((2, *shape), np.int64)
        scores, inside = np.zeros((2, *shape), np.float32)
        return cls(np.full(shape, -1, np.int64), rows, codes, scores, inside, *np.zeros((2, *shape)))

    def put(self, requests: IntArray, beams: "Beams") -> None:
        """Overwrite the beams of some requests."""
        for whole, own in zip(self._asdict().values(), beams, strict=True):
            whole[requests] = own

    def take(self, requests: Any) -> "Beams":
        """Return the beams of some requests, or some slots of all."""
        return Beams(*(array[requests] for array in self))


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
    beams = Beams.empty(forward.batch, 1)
    for part in parts:
        beams.nodes[part.rows] = 0
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
        kept = Beams.empty(forward.batch, settings.num_beams)
        for part in parts:
            at = None if len(part.rows) == forward.batch else torch.from_numpy(part.rows)
            logits = head.logits(_rows(features, at).flatten(0, 1), tokens[id(part.vocab)][depth])
            found = _continue(
                part, beams.take(part.rows), logits.view(len(part.rows), shape[1], -1),
                None if norm is None else _rows(norm, at).to(logits.device), settings, depth=depth,
                keys=None if keys is None else keys[part.rows, depth],
            )  # fmt: skip
            kept.put(part.rows, found)
        beams = kept
        if (beams.nodes < 0).all():
            break
        if depth + 1 < n_levels:
            # Slots that no request fills get no row of the model.
            width = int((beams.nodes >= 0).sum(axis=1).max())
            beams = beams.take(np.s_[:, :width])
            features = forward.step(beams.rows, _chosen_tokens(parts, beams.codes, depth))
    return _output(parts, beams, settings, n_levels)


def check_numbers(values: FloatArray, depth: int) -> None:
    """Raise if a logit or log-probability is NaN."""
    if np.isnan(values).any():
        raise InvalidValueError(
            f"the model's logits are not numbers: expected numbers at level {depth}, got nan. "
            "Check its weights; float16 may overflow where bfloat16 does not."
        )


def _rows(values: torch.Tensor, at: torch.Tensor | None) -> torch.Tensor:
    return values if at is None else values[at.to(values.device)]


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
    alive, k = beams.nodes >= 0, settings.num_beams
    children = None
    if settings.do_sample or settings.normalize == "allowed":
        children = _children(part, logits, beams.nodes, depth=depth, k=k)
    log_probs = _log_probs(part, logits, norm, children, settings.normalize, depth)
    check_numbers(log_probs[alive], depth)
    new = Beams.empty(len(beams.nodes), k)
    if keys is None:
        scores, rows, codes, nodes = part.trie.select(
            log_probs, beams.scores, beams.nodes, depth=depth, k=k, exclude=part.excluded, candidates=part.candidates
        )
        new = new._replace(scores=scores, rows=np.maximum(rows, 0), codes=np.maximum(codes, 0), nodes=nodes)
    else:
        assert children is not None
        rows, codes, nodes, drawn, perturbed = draw(children, beams.drawn, beams.perturbed, keys, k=k)
        request = np.arange(len(rows))[:, None]
        scores = beams.scores[request, rows] + log_probs[request, rows, codes]
        new = new._replace(scores=scores, rows=rows, codes=codes, nodes=nodes, drawn=drawn, perturbed=perturbed)
    if settings.outside:
        assert norm is not None
        inside = beams.inside + (logits.logsumexp(dim=2) - norm).cpu().numpy()
        new = new._replace(inside=np.take_along_axis(inside, new.rows, axis=1))
    return new


def _children(part: Part, logits: torch.Tensor, nodes: IntArray, *, depth: int, k: int) -> Selection:
    """Return all children of the beams that lead to an item that their request may return, in `k` slots or more.

    Their scores are their logits.
    """
    values = logits[..., : part.trie.codebook_sizes[depth]].cpu().numpy()
    check_numbers(values[nodes >= 0], depth)  # `select` drops what is no number
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
    normalize: str,
    depth: int,
) -> FloatArray:
    """Return the log-probabilities of the trie's codes of a level, shape (requests, width, codebook_size)."""
    size = part.trie.codebook_sizes[depth]
    if normalize == "full":
        assert norm is not None
        return (logits[..., :size] - norm[..., None]).cpu().numpy()
    if normalize == "allowed":
        assert children is not None
        request, slot = np.nonzero(children.nodes >= 0)
        closed = np.ones(logits.shape, np.bool_)
        closed[request, children.rows[request, slot], children.codes[request, slot]] = False
        logits = logits.masked_fill(torch.from_numpy(closed).to(logits.device), -torch.inf)
        # A beam without children has no probabilities, and needs none.
        return logits.log_softmax(dim=2)[..., :size].nan_to_num(nan=-torch.inf).cpu().numpy()
    return logits.log_softmax(dim=2)[..., :size].cpu().numpy()


def _chosen_tokens(parts: list[Part], codes: IntArray, depth: int) -> IntArray:
    """Return the token of each chosen code; rows that belong to no part get some token of the model."""
    tokens: IntArray = np.zeros(codes.shape, np.int64)
    for part in parts:
        tokens[part.rows] = part.vocab.level_tokens[depth][codes[part.rows]]
    return tokens


def _output(parts: list[Part], beams: Beams, settings: Settings, n_levels: int) -> BeamOutput:
    """Return ranks, the nodes of the last level, and what belongs to them."""
    out = BeamOutput.empty(len(beams.nodes), settings.num_return, n_levels, outside=settings.outside)
    for part in parts:
        own = beams.take(part.rows).take(np.s_[:, : settings.num_return])
        found = BeamOutput.from_ranks(part.trie, own.nodes, own.scores)
        out.items[part.rows], out.codes[part.rows], out.scores[part.rows], out.n_valid[part.rows] = found[:4]
        if out.outside is not None:
            lost = -np.expm1(np.minimum(own.inside, 0))
            out.outside[part.rows] = np.where(own.nodes >= 0, lost, np.float32(np.nan))
    return out
