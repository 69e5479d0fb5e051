"""SASRec (Kang and McAuley 2018, arXiv 1808.09781): causal self-attention over a user's items, without semantic IDs.

An item is one row of a table, and the score of the next item is the product of its row with what the attention makes of
the items before it. Here the rows are a collaborative view (`views`), and `lab.rivals` measures the model as a
baseline.

The block is the paper's. Three things differ, all in its favour. It is trained with a softmax over the whole catalogue
instead of one drawn negative; Klenitskiy and Vasilev 2023 (doi 10.1145/3604915.3610644) found that this separates good
SASRecs from published ones. A target sees the items of earlier seconds only, in training and in evaluation, as
everywhere in this example. And the epoch with the best validation NDCG@10 is kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from .dataset import VALID, Dataset, History, IntArray, seen, targets
from .metrics import metrics

__all__ = ["SasRec", "SasRecOptions", "fit_sasrec"]

FloatArray = npt.NDArray[np.float32]

IGNORED = -100


@final
@dataclass(frozen=True, kw_only=True)
class SasRecOptions:
    """Sizes and schedule; the defaults are the paper's, except for those of the training.

    Attributes
    ----------
    dim, n_layers, n_heads : int
    dropout : float
        Of the embedded items and of what both layers of a block add.
    max_items : int
        Longest history that is read, the latest items.
    learning_rate, weight_decay : float
        Of AdamW.
    batch_size : int
        Windows of histories in a step.
    max_epochs, patience : int
        Stop after so many epochs, or after so many in a row without a new best.
    """

    dim: int = 64
    n_layers: int = 2
    n_heads: int = 1
    dropout: float = 0.5
    max_items: int = 50
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 128
    max_epochs: int = 200
    patience: int = 10


class Window(NamedTuple):
    """A piece of a history, and its targets.

    Attributes
    ----------
    items : ndarray of shape (length,), dtype int64
    place, target : ndarray of shape (n_targets,), dtype int64
        `target` is the item to predict from the items up to `place`, the last place of an earlier second.
    """

    items: IntArray
    place: IntArray
    target: IntArray


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each ``x + dropout(g(norm(x)))`` (section 3.2 of the paper)."""

    def __init__(self, options: SasRecOptions) -> None:
        super().__init__()
        dim = options.dim
        self.n_heads, self.rate = options.n_heads, options.dropout
        self.norm_attention, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.mix = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.forward_in, self.forward_out = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return new states, shape (batch, length, dim); a place sees itself and those before it."""
        rate = self.rate if self.training else 0.0
        parts = self.query_key_value(self.norm_attention(hidden)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + F.dropout(self.mix(attended.transpose(1, 2).flatten(2)), rate)
        wide = F.dropout(F.relu(self.forward_in(self.norm_forward(hidden))), rate)
        return hidden + F.dropout(self.forward_out(wide), rate)


@final
class SasRec(nn.Module):
    """The model; an item's score is the product of its row with the last state."""

    def __init__(self, n_items: int, options: SasRecOptions) -> None:
        super().__init__()
        self.options = options
        self.items = nn.Embedding(n_items + 1, options.dim, padding_idx=n_items)
        self.places = nn.Embedding(options.max_items, options.dim)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.n_layers))
        self.norm = nn.LayerNorm(options.dim)
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=0.02)

    @property
    def n_items(self) -> int:
        """Number of items; one more row is padding."""
        return self.items.num_embeddings - 1

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Return the states after each place, shape (batch, length, dim), for items of shape (batch, length)."""
        # Padding comes after the items, where the causal mask hides it.
        places = torch.arange(items.shape[1], device=items.device)
        hidden = self.items(items) * self.options.dim**0.5 + self.places(places)
        hidden = F.dropout(hidden, self.options.dropout, self.training)
        for block in self.blocks:
            hidden = block(hidden)
        normed: torch.Tensor = self.norm(hidden)
        return normed

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items, shape (..., n_items), for states of shape (..., dim)."""
        return states @ self.items.weight[:-1].T

    @torch.inference_mode()
    def batch_scores(self, histories: Sequence[IntArray]) -> FloatArray:
        """Return the scores of all items, shape (n_histories, n_items), dtype float32; the latest item comes last.

        A history without items gets zeros.
        """
        kept = [items[-self.options.max_items :] for items in histories]
        lengths = np.array([len(items) for items in kept])
        states = self(self._padded(kept))
        last = states[torch.arange(len(kept)), torch.from_numpy(np.maximum(lengths - 1, 0))]
        scores: FloatArray = self.logits(last).numpy()
        scores[lengths == 0] = 0
        return scores

    def scores(self, history: IntArray) -> FloatArray:
        """Return the scores of all items, shape (n_items,), dtype float32, for a history of items."""
        scores: FloatArray = self.batch_scores([history])[0]
        return scores

    def loss(self, windows: Sequence[Window]) -> torch.Tensor:
        """Return the mean cross-entropy of the targets of some windows, in nats."""
        states = self(self._padded([window.items for window in windows]))
        row = np.repeat(np.arange(len(windows)), [len(window.place) for window in windows])
        place, target = (np.concatenate([window[field] for window in windows]) for field in (1, 2))
        return F.cross_entropy(self.logits(states[row, place]), torch.from_numpy(target))

    def _padded(self, histories: Sequence[IntArray]) -> torch.Tensor:
        width = max(1, *(len(items) for items in histories))
        padded = [np.pad(items, (0, width - len(items)), constant_values=self.n_items) for items in histories]
        return torch.from_numpy(np.stack(padded))


def windows_of(history: History, *, max_items: int, rng: np.random.Generator) -> list[Window]:
    """Cut the training events of a history into windows; the first is of random length, where there is more than one.

    A target whose window holds no item of an earlier second is left out.
    """
    train = history.train_events()
    items, time = history.item[train], history.time[train]
    first = max_items if len(items) <= max_items else int(rng.integers(2, max_items + 1))
    bounds = [0, *range(first, len(items), max_items), len(items)]
    windows = []
    for begin, end in pairwise(bounds):
        # The item right after a window is a target, too: the window is its history.
        target = np.arange(begin, min(end + 1, len(items)))
        place = np.searchsorted(time, time[target], side="left") - 1 - begin
        told = place >= 0
        if told.any():
            windows.append(Window(items[begin:end], place[told], items[target[told]]))
    return windows


def fit_sasrec(dataset: Dataset, *, options: SasRecOptions | None = None, seed: int) -> tuple[SasRec, list[float]]:
    """Train on the training events of all users, and keep the epoch that is best on the validation targets.

    It uses one thread. Several threads add up in another order, so that the same seed would give other rows, and other
    IDs made of them, on a machine with another number of cores. The matrices are small; more threads gain little.

    Parameters
    ----------
    dataset : Dataset
    options : SasRecOptions, optional
    seed : int
        Of the weights, the windows, their order and the dropout; torch's own generator is left as it is.

    Returns
    -------
    model : SasRec
        In evaluation mode.
    validations : list of float
        NDCG@10 after each epoch; empty if the data have no validation targets, in which case all epochs are trained.
    """
    options = options or SasRecOptions()
    rng = np.random.default_rng(seed)
    requests = targets(dataset.histories, task="recommendation", split=VALID)
    validations: list[float] = []
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        model = SasRec(dataset.n_items, options)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.98)
        )
        best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        epochs = tqdm(range(options.max_epochs), desc="SASRec", unit="epoch", leave=False, disable=None)
        for _ in epochs:
            model.train()
            windows = [
                window
                for history in dataset.histories
                for window in windows_of(history, max_items=options.max_items, rng=rng)
            ]
            for rows in _batches(np.array([len(window.items) for window in windows]), options.batch_size, rng):
                loss = model.loss([windows[row] for row in rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            model.eval()
            if not len(requests):
                continue
            validations.append(_ndcg(model, dataset, requests))
            epochs.set_postfix(ndcg=f"{validations[-1]:.4f}", refresh=False)
            if validations[-1] > max(validations[:-1], default=-1.0):
                best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            elif len(validations) - 1 - int(np.argmax(validations)) >= options.patience:
                break
    if validations:
        model.load_state_dict(best)
    return model, validations


@contextmanager
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _batches(lengths: IntArray, size: int, rng: np.random.Generator) -> list[IntArray]:
    """Return the rows of each batch, in random order; windows of similar length share one to save padding."""
    order = np.argsort(lengths + rng.random(len(lengths)), kind="stable")
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batches[at] for at in rng.permutation(len(batches))]


def _ndcg(model: SasRec, dataset: Dataset, requests: IntArray) -> float:
    """Return NDCG@10 over the catalogue without what the user has; equal scores count against the target."""
    ranks = np.empty(len(requests), dtype=np.int64)
    requests = requests[np.argsort(requests[:, 1], kind="stable")]  # similar lengths together
    for start in range(0, len(requests), model.options.batch_size):
        rows = requests[start : start + model.options.batch_size]
        pairs = [(dataset.histories[user], int(event)) for user, event in rows]
        scores = model.batch_scores([history.item[history.before(event)] for history, event in pairs])
        wanted = scores[np.arange(len(rows)), [history.item[event] for history, event in pairs]]
        for row, (history, event) in enumerate(pairs):
            scores[row, seen(history, event)] = -np.inf
        ranks[start : start + len(rows)] = (scores >= wanted[:, None]).sum(axis=1) - 1
    return metrics(ranks)["NDCG@10"]
