"""Leave-one-out evaluation, of the full catalogue by beams that can only write the IDs of items, and of the candidates.

The paper ranks 1 + 99 candidates of each request, with 30 beams that are held to them. A beam that is given up early
takes its candidates along. `semid.score_items` scores every candidate, so that nothing is lost; both are here.

A search may be held to the items that belong to its query, as a shop's filter by category does (`search_within`). The
floors "items of the query" are, too. There are few such items, so that all can be scored; and one model answers both
tasks, so that it can be asked both questions of the same items (`search_by`):

    score(i) = log p(search ID of i | history, query) + log p(recommendation ID of i | history)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from tqdm import tqdm

import semid

from .candidates import Candidates
from .dataset import TEST, Dataset, IntArray, Task, seen, targets
from .decoding import DECODERS
from .events import draw_forms, prompt
from .identifiers import VIEW_OF, Identifiers
from .language import Language
from .metrics import CUTOFFS, metrics, ranks_of
from .presets import Recipe
from .recent import past_events

__all__ = ["CANDIDATE_BEAMS", "LIST_LENGTH", "Evaluator", "TaskResult"]

LIST_LENGTH = max(CUTOFFS)
CANDIDATE_BEAMS = 30


@final
@dataclass(frozen=True)
class TaskResult:
    """What the model answered to one task's requests.

    Attributes
    ----------
    metrics : dict of str to float
        HR and NDCG at the places of `CUTOFFS`.
    ranked : ndarray of shape (n_requests, list_length), dtype int64
        Items, best first; -1 pads lists that ran out of items.
    ranks : ndarray of shape (n_requests,), dtype int64
        Place of the target in its list, -1 where it is not.
    users : ndarray of shape (n_requests,), dtype int64
    n_generated : int
        Rows that the beams returned.
    n_real : int
        Of these, rows that are the ID of an item.
    n_repeated : int
        Of these, rows that repeat an item of their list.
    """

    metrics: dict[str, float]
    ranked: IntArray
    ranks: IntArray
    users: IntArray
    n_generated: int
    n_real: int
    n_repeated: int


@final
class Evaluator:
    """Asks the model for the held-out events of a data set; `decoder` is one of `gensar.decoding.DECODERS`."""

    def __init__(
        self, dataset: Dataset, identifiers: Identifiers, language: Language, recipe: Recipe, *, decoder: str = "semid"
    ) -> None:
        self.dataset, self.language, self.recipe = dataset, language, recipe
        self.decode = DECODERS[decoder]
        self.tries = {task: identifiers.sids.trie(view) for task, view in VIEW_OF.items()}
        self.rank_of_item = {
            task: np.asarray(identifiers.sids.ranks_of(dataset.item_keys, view=view)) for task, view in VIEW_OF.items()
        }
        # Answers are read with a plain dict rather than by their ranks in the trie: what the trie let through is then
        # checked by something else.
        self.item_of_codes = {
            task: {tuple(codes): item for item, codes in enumerate(identifiers.codes[view].tolist())}
            for task, view in VIEW_OF.items()
        }

    def evaluate(
        self, model: Any, *, task: Task, split: int, n_users: int | None = None, within: str | None = None
    ) -> TaskResult | None:
        """Rank the full catalogue for the targets of a split; None when the data have no such targets.

        Parameters
        ----------
        model : PreTrainedModel
            In evaluation mode.
        task : {"recommendation", "search"}
        split : int
            `VALID` or `TEST`.
        n_users : int, optional
            Take this many targets only, drawn with a fixed seed; default: all.
        within : {"query", "catalogue"}, optional
            Which items a search may find; default: the recipe's `search_within`.
        """
        requests = targets(self.dataset.histories, task=task, split=split)
        if n_users is not None and len(requests) > n_users:
            requests = requests[np.sort(np.random.default_rng(0).choice(len(requests), n_users, replace=False))]
        scope = within or self.recipe.search_within
        if _limit(task, scope) == "candidates" and self.recipe.search_by == "both":
            return self._ask_both(model, requests)
        answers = _Answers(requests, list_length=LIST_LENGTH)
        for rows, inputs in self._batches(task, requests):
            asked = [self._items_to_rank(user, event, task, scope=scope) for user, event in requests[rows]]
            out = self.decode(
                model,
                _on(model, inputs),
                trie=self.tries[task],
                vocab=self.language.vocabs[VIEW_OF[task]],
                num_beams=self.recipe.num_beams,
                num_return=LIST_LENGTH,
                normalize=self.recipe.normalize,
                **{name: [self.rank_of_item[task][items] for items in asked] for name in [_limit(task, scope)]},
            )
            answers.read(rows, out, self.item_of_codes[task])
        return answers.result(self.dataset, cutoffs=CUTOFFS)

    def score_candidates(self, model: Any, *, task: Task, candidates: Candidates) -> TaskResult | None:
        """Rank the candidates of the test targets by the exact probability of their IDs; None when there are none."""
        requests = targets(self.dataset.histories, task=task, split=TEST)
        answers = _Answers(requests, list_length=LIST_LENGTH)
        for rows, inputs in self._batches(task, requests):
            items = candidates.items[task][rows]
            ranks = np.where(items >= 0, self.rank_of_item[task][items], -1)
            scores = self._score(model, inputs, task, list(ranks))
            # Equal scores go by the rank in the trie: the target stands first and must not win for it.
            order = np.lexsort((ranks, -scores))[:, : answers.ranked.shape[1]]
            answers.ranked[rows, : order.shape[1]] = np.take_along_axis(items, order, axis=1)
        return answers.result(self.dataset, cutoffs=CUTOFFS)

    def generate_candidates(self, model: Any, *, task: Task, candidates: Candidates) -> TaskResult | None:
        """Rank the candidates of the test targets by the paper's 30 beams; None when there are none."""
        requests = targets(self.dataset.histories, task=task, split=TEST)
        answers = _Answers(requests, list_length=LIST_LENGTH)
        for rows, inputs in self._batches(task, requests):
            wanted = [own[own >= 0] for own in candidates.items[task][rows]]
            out = self.decode(
                model,
                _on(model, inputs),
                trie=self.tries[task],
                vocab=self.language.vocabs[VIEW_OF[task]],
                num_beams=CANDIDATE_BEAMS,
                num_return=answers.ranked.shape[1],
                normalize=self.recipe.normalize,
                candidates=[self.rank_of_item[task][own] for own in wanted],
            )
            answers.read(rows, out, self.item_of_codes[task])
        return answers.result(self.dataset, cutoffs=CUTOFFS)

    def _ask_both(self, model: Any, requests: IntArray) -> TaskResult | None:
        """Rank the items of the query by the sum of both tasks' exact log-probabilities."""
        items = [self._items_to_rank(user, event, "search", scope="query") for user, event in requests]
        answers = _Answers(requests, list_length=LIST_LENGTH)
        total = [np.zeros(len(own), dtype=np.float32) for own in items]
        for task in VIEW_OF:
            for rows, inputs in self._batches(task, requests):
                ranks = [self.rank_of_item[task][items[row]] for row in rows]
                for row, scores in zip(rows, self._score(model, inputs, task, ranks), strict=True):
                    total[row] += scores[: len(items[row])]
        for row, scores in enumerate(total):
            order = np.argsort(-scores, kind="stable")[:LIST_LENGTH]
            answers.ranked[row, : len(order)] = items[row][order]
        return answers.result(self.dataset, cutoffs=CUTOFFS)

    def _score(self, model: Any, inputs: dict[str, torch.Tensor], task: Task, ranks: Sequence[IntArray]) -> Any:
        longest = max(len(own) for own in ranks)
        return semid.score_items(
            model,
            _on(model, inputs),
            trie=self.tries[task],
            vocab=self.language.vocabs[VIEW_OF[task]],
            candidates=[np.pad(own, (0, longest - len(own)), constant_values=-1) for own in ranks],
        )

    def _items_to_rank(self, user: int, event: int, task: Task, *, scope: str) -> IntArray:
        """Return the items of the query that the user does not have or, of the catalogue, those that the user has."""
        history = self.dataset.histories[user]
        had = seen(history, event)
        if _limit(task, scope) == "exclude":
            return had
        return np.setdiff1d(self.dataset.query_items[history.query[event]], had)

    def _batches(self, task: Task, requests: IntArray) -> Iterator[tuple[IntArray, dict[str, torch.Tensor]]]:
        """Yield the rows of `requests` of a batch, and its inputs."""
        prompts = [self._prompt(user, event, task) for user, event in requests]
        # Long prompts first, so that prompts of a batch have like lengths and memory is short at once or never.
        order = np.argsort([-len(tokens) for tokens in prompts], kind="stable")
        starts = range(0, len(order), self.recipe.eval_batch)
        for start in tqdm(starts, desc=f"evaluate {task}", unit="batch", leave=False, disable=None):
            rows = order[start : start + self.recipe.eval_batch]
            yield rows, self._inputs([prompts[row] for row in rows])

    def _prompt(self, user: int, event: int, task: Task) -> list[int]:
        history = self.dataset.histories[user]
        # The forms of the past events are drawn as in training, with a seed of their own, so that a request has one
        # prompt, always. All of them as recommendations: test NDCG@10 .0794 instead of .0865 (ML-100K).
        forms = draw_forms(history, np.random.default_rng([user, event]), search_share=self.recipe.search_share)
        return prompt(
            self.language, history, event, task=task, forms=forms, max_tokens=self.recipe.max_tokens,
            past=past_events(history, event, task=task, recipe=self.recipe),
        )  # fmt: skip

    def _inputs(self, prompts: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        pad = self.language.tokenizer.pad_token_id
        width = max(len(tokens) for tokens in prompts)
        missing = [width - len(tokens) for tokens in prompts]
        # Padded on the left, where a decoder-only model expects it; an encoder's relative positions do not mind.
        return {
            "input_ids": torch.tensor([[pad] * gap + tokens for gap, tokens in zip(missing, prompts, strict=True)]),
            "attention_mask": (torch.arange(width) >= torch.tensor(missing)[:, None]).long(),
        }


class _Answers:
    """The lists of all requests of a task, filled batch by batch."""

    def __init__(self, requests: IntArray, *, list_length: int) -> None:
        self.requests = requests
        self.ranked: IntArray = np.full((len(requests), list_length), -1, dtype=np.int64)
        self.n_generated = self.n_real = self.n_repeated = 0

    def read(self, rows: IntArray, out: Any, item_of_codes: dict[tuple[int, ...], int]) -> None:
        """Note what the beams wrote for some rows, and whether it is an item."""
        for row, listed, n_valid in zip(rows, out.codes, out.n_valid, strict=True):
            written = [tuple(codes) for codes in listed[:n_valid].tolist()]
            real = [item_of_codes[codes] for codes in written if codes in item_of_codes]
            self.n_generated += len(written)
            self.n_real += len(real)
            self.n_repeated += len(real) - len(set(real))
            self.ranked[row, : len(real)] = real

    def result(self, dataset: Dataset, *, cutoffs: Sequence[int]) -> TaskResult | None:
        """Return all of it with its metrics; None if nothing was asked."""
        if not len(self.requests):
            return None
        relevant = np.array([dataset.histories[user].item[event] for user, event in self.requests])
        ranks = ranks_of(self.ranked, relevant)
        return TaskResult(
            metrics(ranks, cutoffs=cutoffs), self.ranked, ranks, self.requests[:, 0], self.n_generated, self.n_real,
            self.n_repeated,
        )  # fmt: skip


def _limit(task: Task, scope: str) -> str:
    """Return the argument of the decoder that tells which items to rank."""
    return "candidates" if task == "search" and scope == "query" else "exclude"


def _on(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to(model.device) for name, tensor in inputs.items()}
