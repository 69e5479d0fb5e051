"""The trie as torch buffers: one vectorised gather per step, on the device where the logits are, without a wait."""

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch

from semid._arrays import Int64Array, IntArray
from semid._checks import check_count
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie.checks import FROM_WALK, check_depth
from semid.trie.selection import MOST_BEAMS, RankLists, check_n_lists, check_step
from semid.trie.trie import Trie

__all__ = ["RankTensors", "TorchTrie"]

Lists = Sequence[Iterable[int] | None] | RankLists


class RankTensors(NamedTuple):
    """Ranks per request on the device of a mirror, from `TorchTrie.rank_lists`.

    Attributes
    ----------
    ranks : torch.Tensor of shape (batch, n), integers
        Positions among the items of the mirror, sorted; filled up with their number.
    given : torch.Tensor of shape (batch,), bool
        False for a request that has None.
    """

    ranks: torch.Tensor
    given: torch.Tensor


@final
class TorchTrie(torch.nn.Module):
    """A trie's levels as buffers of one device; `select` and `mask` give what `Trie`'s give.

    Every shape depends on the arguments and the trie alone, so that nothing waits for the device. A step gathers as
    many children per beam as the widest node of the level has.

    ``torch.compile`` makes one graph per depth, and others when the batch changes or lists come. It makes 8 of one
    function: with ``torch.compile(mirror.select)`` a search soon needs more, and goes on uncompiled or, with
    ``fullgraph=True``, raises. `compiled_select` has as many for each depth; or raise
    ``torch._dynamo.config.recompile_limit``.

    Parameters
    ----------
    trie : Trie
        A restricted one, too: then only what leads to its items is copied.

    Examples
    --------
    >>> import semid, torch
    >>> mirror = TorchTrie(semid.Trie.from_codes([[0, 2], [0, 3], [1, 2]]))
    >>> start, nodes = torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64)
    >>> scores, rows, codes, nodes_ = mirror.select(torch.zeros(1, 1, 2), start, nodes, depth=0, k=2)
    >>> codes, nodes_
    (tensor([[0, 1]]), tensor([[0, 2]]))
    >>> seen = mirror.rank_lists([[0, 1]])
    >>> mirror.select(torch.zeros(1, 1, 2), start, nodes, depth=0, k=2, exclude=seen)[2]
    tensor([[ 1, -1]])
    """

    def __init__(self, trie: Trie) -> None:
        if not isinstance(trie, Trie):
            raise InvalidTypeError(
                f"trie has a wrong type: expected a Trie, got {type(trie).__name__}. Pass semid.Trie.from_codes(codes)."
            )
        super().__init__()
        self.n_levels, self.codebook_sizes, self.n_ranks = trie.n_levels, trie.codebook_sizes, trie.n_ranks
        self.widest: list[int] = []
        self.n_items, self._reached = trie.n_items, trie.ranks()
        dtype = np.int32 if trie.n_ranks < 2**31 - 2 else np.int64

        def put(name: str, values: IntArray) -> None:
            self.register_buffer(f"{name}_{depth}", torch.from_numpy(values.astype(dtype)))

        ids: IntArray = np.zeros(1, np.int64)  # nodes of a depth, and their first items among those that are reached
        firsts, codes = np.zeros(1, np.int64), trie.codes_of(self._reached)
        rises = np.zeros(len(codes), np.bool_)
        rises[:1] = True
        for depth in range(trie.n_levels):
            rises[1:] |= codes[1:, depth] != codes[:-1, depth]
            below = np.flatnonzero(rises)
            starts = np.append(np.searchsorted(below, firsts), len(below))
            if len(codes) == 0:
                starts = np.zeros(2, np.int64)
            put("ids", ids)
            put("starts", starts)
            ids = trie.walk(codes[below, : depth + 1])
            # One edge more than there are, without items: a place behind the last may be read.
            put("codes", np.append(codes[below, depth], 0))
            put("children", np.append(ids, -1))
            put("firsts", np.append(below, [len(codes), len(codes)]))
            self.widest.append(max(1, int(np.diff(starts).max(initial=0))))
            firsts = below
            if len(ids) == 0:
                ids = np.zeros(1, np.int64)

    def rank_lists(self, lists: Lists) -> RankTensors:
        """Check and sort ranks per request and copy them to the mirror's device, once for all steps of a search.

        Parameters
        ----------
        lists : sequence of batch sequences of int or None, or RankLists
            As `Trie.select` takes them in `exclude` and `candidates`; ranks are those of the whole trie.

        Returns
        -------
        RankTensors
        """
        return self._rank_tensors(lists, "lists")

    def _rank_tensors(self, given_lists: Lists, name: str) -> RankTensors:
        lists = RankLists.check(given_lists, n_items=self.n_ranks, name=name)
        rows = [self._at(lists.ranks[a:b]) for a, b in zip(lists.starts[:-1], lists.starts[1:], strict=True)]
        padded = np.full((len(rows), max(map(len, rows), default=0)), self.n_items, np.int64)
        for row, at in zip(padded, rows, strict=True):
            row[: len(at)] = at
        like = self.get_buffer("starts_0")
        given = torch.from_numpy(lists.given.astype(np.bool_))
        return RankTensors(torch.from_numpy(padded).to(like), given.to(like.device))

    def _at(self, ranks: IntArray) -> Int64Array:
        """Return the positions of ranks among the items of the mirror, less those that it does not reach."""
        at = np.searchsorted(self._reached, ranks)
        known = at < len(self._reached)
        known[known] = self._reached[at[known]] == ranks[known]
        return at[known]

    def _checked(self, depth: int) -> int:
        """Return the depth as one of the numbers that the compiler knows: it takes an argument for a variable."""
        depth = check_depth(depth, n_levels=self.n_levels)
        return next(known for known in range(self.n_levels) if known == depth)

    def _children(self, nodes: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the edges of each node, shape (..., widest), and which of them exist."""
        _check_integers(nodes, "nodes", remedy=FROM_WALK)
        ids, starts = self.get_buffer(f"ids_{depth}"), self.get_buffer(f"starts_{depth}")
        at = torch.searchsorted(ids, nodes.to(ids.dtype).clamp_min(0)).clamp_max(ids.shape[0] - 1)
        known = (nodes >= 0) & (ids[at] == nodes)  # compared as given: 2^32 is 0 in 32 bits
        edges = starts[at][..., None] + torch.arange(self.widest[depth], device=nodes.device)
        exist = known[..., None] & (edges < starts[at + 1][..., None])
        return torch.where(exist, edges, self.get_buffer(f"codes_{depth}").shape[0] - 1).long(), exist

    def _reachable(
        self, edges: torch.Tensor, depth: int, exclude: RankTensors | None, candidates: RankTensors | None
    ) -> torch.Tensor:
        """Tell below which edges, shape (batch, n), there is an item that a request may reach."""
        firsts = self.get_buffer(f"firsts_{depth}")
        low, high = firsts[edges], firsts[edges + 1]
        if exclude is None:
            left = low < high
        else:
            left = _before(exclude.ranks, high) - _before(exclude.ranks, low) < high - low
        if candidates is None:
            return left
        wanted = candidates.ranks < self.n_items
        if exclude is not None and exclude.ranks.shape[1]:
            at = _before(exclude.ranks, candidates.ranks).clamp_max(exclude.ranks.shape[1] - 1)
            wanted &= exclude.ranks.gather(1, at) != candidates.ranks
        counts = torch.nn.functional.pad(wanted.long().cumsum(1), (1, 0))
        some = counts.gather(1, _before(candidates.ranks, high)) > counts.gather(1, _before(candidates.ranks, low))
        return torch.where(candidates.given[:, None], some, left)

    def select(
        self,
        log_probs: torch.Tensor,
        start: torch.Tensor,
        nodes: torch.Tensor,
        *,
        depth: int,
        k: int,
        exclude: RankTensors | Lists | None = None,
        candidates: RankTensors | Lists | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keep the `k` best continuations over all beams of each request, as `Trie.select` does.

        Parameters
        ----------
        log_probs : torch.Tensor of shape (batch, beams, codebook_size), floating
        start : torch.Tensor of shape (batch, beams), floating
        nodes : torch.Tensor of shape (batch, beams), integers
            A node that is not at `depth` has no children. `Trie.select` raises; here that would wait for the device.
        depth, k : int
        exclude, candidates : RankTensors, or what `rank_lists` takes, optional
            Ranks that a request must not reach, and all that it may reach. Make them with `rank_lists` before the
            search: lists are copied to the device at every call, and cannot be compiled.

        Returns
        -------
        scores, rows, codes, nodes : torch.Tensor of shape (batch, k)
            float32 and int64; -inf and -1 in empty slots.
        """
        depth, k = self._checked(depth), check_count(k, "k", most=MOST_BEAMS)
        _check_floats(log_probs, "log_probs")
        _check_floats(start, "start")
        _check_integers(nodes, "nodes", remedy=FROM_WALK)
        check_step(log_probs.shape, start.shape, nodes.shape, size=self.codebook_sizes[depth], depth=depth)
        edges, exist = self._children(nodes, depth)
        codes = self.get_buffer(f"codes_{depth}")[edges].long()
        values = log_probs.float().gather(2, codes) + start.float()[..., None]
        values = torch.where(exist & (values > -torch.inf), values, -torch.inf).flatten(1)
        batch, n_values = values.shape
        if exclude is not None or candidates is not None:
            unwanted, wanted = self._ranks(exclude, batch, "exclude"), self._ranks(candidates, batch, "candidates")
            values = torch.where(self._reachable(edges.flatten(1), depth, unwanted, wanted), values, -torch.inf)
        if n_values < k:
            values = torch.cat([values, values.new_full((batch, k - n_values), -torch.inf)], dim=1)
        # A stable sort keeps the order of beams and codes where scores tie; topk promises nothing about it.
        scores, order = values.sort(dim=1, descending=True, stable=True)
        scores, order = scores[:, :k], order[:, :k]
        filled, order = scores > -torch.inf, order.clamp_max(n_values - 1)
        children = self.get_buffer(f"children_{depth}")[edges].long().flatten(1)
        found = (order // self.widest[depth], codes.flatten(1).gather(1, order), children.gather(1, order))
        rows, codes, nodes = (torch.where(filled, part, -1) for part in found)
        return scores, rows, codes, nodes

    def compiled_select(self, **options: Any) -> Callable[..., tuple[torch.Tensor, ...]]:
        """Return `select` compiled, a function of its own for each depth.

        Parameters
        ----------
        **options
            Of ``torch.compile``, such as ``fullgraph=True``.

        Returns
        -------
        select : callable
            Takes what `select` takes; `exclude` and `candidates` come from `rank_lists`.
        """
        # The compiler counts graphs, and remembers which numbers change, per code object: each depth has a copy.
        steps = [
            torch.compile(
                types.FunctionType(_select_at.__code__.replace(co_name=f"select_at_{depth}"), globals()), **options
            )
            for depth in range(self.n_levels)
        ]

        def select(
            log_probs: torch.Tensor,
            start: torch.Tensor,
            nodes: torch.Tensor,
            *,
            depth: int,
            k: int,
            exclude: RankTensors | None = None,
            candidates: RankTensors | None = None,
        ) -> tuple[torch.Tensor, ...]:
            check_depth(depth, n_levels=self.n_levels)
            return steps[depth](self, log_probs, start, nodes, depth, k, exclude, candidates)  # type: ignore[no-any-return]

        return select

    def _ranks(self, lists: RankTensors | Lists | None, batch: int, name: str) -> RankTensors | None:
        if lists is None:
            return None
        check_n_lists(lists, batch=batch, name=name)
        return lists if isinstance(lists, RankTensors) else self._rank_tensors(lists, name)

    def mask(self, scores: torch.Tensor, nodes: torch.Tensor, *, depth: int, tokens: torch.Tensor) -> torch.Tensor:
        """Return the scores with -inf where no item follows, as `Trie.mask_inplace` leaves them.

        Parameters
        ----------
        scores : torch.Tensor of shape (rows, vocabulary), floating
        nodes : torch.Tensor of shape (rows,), integers
            A node that is not at `depth` has no children.
        depth : int
        tokens : torch.Tensor of shape (codebook_size,), integers
            Column of `scores` for each code of the level. They are checked where no device has to be waited for.
        """
        depth = self._checked(depth)
        _check_floats(scores, "scores")
        _check_integers(nodes, "nodes", remedy=FROM_WALK)
        if scores.ndim != 2 or nodes.shape != scores.shape[:1]:
            raise InvalidValueError(
                f"scores and nodes disagree: expected (rows, vocabulary) and (rows,), got {tuple(scores.shape)} and "
                f"{tuple(nodes.shape)}. Pass one row of scores per node."
            )
        self._check_tokens(tokens, self.codebook_sizes[depth], scores.shape[1])
        edges, exist = self._children(nodes, depth)
        n_columns = scores.shape[1]
        columns = torch.where(exist, tokens[self.get_buffer(f"codes_{depth}")[edges].long()].long(), n_columns)
        allowed = torch.zeros((scores.shape[0], n_columns + 1), dtype=torch.bool, device=scores.device)
        allowed = allowed.scatter(1, columns, True)[:, :n_columns]
        return scores.masked_fill(~allowed, -torch.inf)

    def _check_tokens(self, tokens: torch.Tensor, size: int, n_columns: int) -> None:
        _check_integers(tokens, "tokens", remedy="Take them from SidVocabulary.level_tokens.")
        fit = tokens.shape == (size,)
        if fit and tokens.is_cpu and not torch.compiler.is_compiling():
            fit = 0 <= int(tokens.min()) and int(tokens.max()) < n_columns
        if not fit:
            raise InvalidValueError(
                f"tokens do not fit: expected {size} columns below {n_columns}, got shape {tuple(tokens.shape)} or "
                "others. Has the model been resized for the vocabulary?"
            )

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Do `select`, so that the module can be called and compiled."""
        return self.select(*arguments, **options)


def _select_at(
    mirror: TorchTrie, log_probs: Any, start: Any, nodes: Any, depth: int, k: int, exclude: Any, candidates: Any
) -> tuple[torch.Tensor, ...]:
    return mirror.select(log_probs, start, nodes, depth=depth, k=k, exclude=exclude, candidates=candidates)


def _check_floats(tensor: Any, name: str) -> None:
    _check_tensor(tensor, name)
    if not tensor.is_floating_point():
        raise InvalidTypeError(
            f"{name} have a wrong dtype: expected floating point, got {tensor.dtype}. "
            "Convert them, and the result back."
        )


def _check_tensor(tensor: Any, name: str) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise InvalidTypeError(
            f"{name} has a wrong type: expected a torch.Tensor, got {type(tensor).__name__}. Trie takes arrays."
        )


def _check_integers(tensor: Any, name: str, *, remedy: str) -> None:
    _check_tensor(tensor, name)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise InvalidTypeError(f"{name} has a wrong dtype: expected integers, got {tensor.dtype}. {remedy}")


def _before(ranks: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """Return how many of each row's sorted ranks are below its limits."""
    return torch.searchsorted(ranks, limits.contiguous())
