"""One embedding for both tasks, from a bi-encoder head that is trained on both; --identifier fused-biencoder.

arXiv 2508.10478 fine-tunes a sentence model on search and recommendation at once and quantizes its embeddings of the
items, the best of its identifiers where one model serves both tasks. Here the sentence model stays frozen, and a head
is trained on its embedding s and on the collaborative view c:

    f(s, c) = norm( A [s ; c] + MLP([s ; c]) )        an item
    f(s, 0)                                           a query, by the same weights

on pairs (a, b) of two kinds: a query and the item that a search for it led to; two items that a user took near each
other. In a batch, each b is a wrong answer to every other a:

    loss = - mean_i log( exp(f(a_i) f(b_i) / T) / sum_j exp(f(a_i) f(b_j) / T) )

without the j whose a or b equals that of i, which are not wrong answers. Only training events are used.

The paper has no c: a fine-tuned sentence model can memorise which texts are taken together. A head on frozen texts
cannot: without c, it recommends no better than the texts do (docs/gensar-results.md has the numbers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

import semid
from semid.errors import InvalidValueError

from ..dataset import Dataset, History, IntArray
from ..identifiers import Identifiers, shape_of_ids, unique_identifiers
from ..presets import Recipe
from ..views import embed_texts

__all__ = [
    "BiEncoder",
    "BiEncoderOptions",
    "Joint",
    "fit_biencoder",
    "fused_identifiers",
    "in_batch_loss",
    "item_pairs",
    "search_pairs",
]

FloatArray = npt.NDArray[np.float32]


@final
@dataclass(frozen=True, kw_only=True)
class BiEncoderOptions:
    """Sizes and schedule.

    Attributes
    ----------
    dim, hidden_size : int
        Of the embedding, and of the layer between.
    dropout : float
        Of the layer between.
    temperature : float
        T above.
    learning_rate, weight_decay : float
        Of AdamW; the rate falls to zero in a half cosine.
    batch_size : int
        Pairs of each kind in a step.
    n_epochs : int
        An epoch has as many pairs of each kind as there are training events, drawn at random.
    window : int
        Two events of a user are near when they are at most this many places apart.
    """

    dim: int = 128
    hidden_size: int = 512
    dropout: float = 0.1
    temperature: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    batch_size: int = 512
    n_epochs: int = 8
    window: int = 5


class Joint(NamedTuple):
    """Embeddings of unit length in one space.

    Attributes
    ----------
    items : ndarray of shape (n_items, dim), dtype float32
    queries : ndarray of shape (n_queries, dim), dtype float32
    """

    items: FloatArray
    queries: FloatArray


@final
class BiEncoder(nn.Module):
    """The head f."""

    def __init__(self, dim_text: int, dim_collaborative: int, options: BiEncoderOptions) -> None:
        super().__init__()
        dim_in = dim_text + dim_collaborative
        self.dim_collaborative = dim_collaborative
        self.straight = nn.Linear(dim_in, options.dim, bias=False)
        self.bent = nn.Sequential(
            nn.Linear(dim_in, options.hidden_size),
            nn.GELU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.hidden_size, options.dim),
        )

    def forward(self, text: torch.Tensor, collaborative: torch.Tensor | None = None) -> torch.Tensor:
        """Return embeddings of unit length, shape (n, dim); without a collaborative view, those of queries."""
        if collaborative is None:
            collaborative = text.new_zeros(len(text), self.dim_collaborative)
        both = torch.cat([text, collaborative], dim=1)
        return F.normalize(self.straight(both) + self.bent(both), dim=1)


def search_pairs(histories: Sequence[History]) -> IntArray:
    """Return (query, item) of each training event that a search led to, shape (n_pairs, 2), dtype int64."""
    pairs = [np.stack([h.query[events], h.item[events]], axis=1) for h in histories for events in [h.train_events()]]
    found = np.concatenate(pairs)
    searched: IntArray = found[found[:, 0] >= 0]
    return searched


def item_pairs(histories: Sequence[History], *, window: int) -> IntArray:
    """Return (item, item) of each two training events of a user at most `window` places apart, in both directions.

    Returns
    -------
    pairs : ndarray of shape (n_pairs, 2), dtype int64
        An item is no pair with itself.
    """
    sequences = [history.item[history.train_events()] for history in histories]
    forward = np.concatenate(
        [
            np.stack([items[:-distance], items[distance:]], axis=1)
            for items in sequences
            for distance in range(1, window + 1)
        ]
    )
    found = np.concatenate([forward, forward[:, ::-1]])
    distinct: IntArray = found[found[:, 0] != found[:, 1]]
    return distinct


def in_batch_loss(left: torch.Tensor, right: torch.Tensor, pairs: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return the mean cross-entropy of finding each pair's right side among those of the batch, in nats.

    Parameters
    ----------
    left, right : Tensor of shape (n_pairs, dim)
        Embeddings of unit length.
    pairs : Tensor of shape (n_pairs, 2), dtype int64
        What they are the embeddings of.
    temperature : float
    """
    first, second = pairs.unbind(dim=1)
    no_wrong_answer = (first[:, None] == first) | (second[:, None] == second)
    no_wrong_answer.fill_diagonal_(False)
    logits = (left @ right.T / temperature).masked_fill(no_wrong_answer, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(pairs)))


def fit_biencoder(
    histories: Sequence[History],
    texts: FloatArray,
    collaborative: FloatArray,
    queries: FloatArray,
    *,
    options: BiEncoderOptions | None = None,
    seed: int,
) -> Joint:
    """Train the head on the training events of all users, and return its embeddings of items and queries.

    Parameters
    ----------
    histories : sequence of History
    texts : ndarray of shape (n_items, dim_text), dtype float32
        Embeddings of the items' texts.
    collaborative : ndarray of shape (n_items, dim_collaborative), dtype float32
    queries : ndarray of shape (n_queries, dim_text), dtype float32
        Embeddings of the queries by the same sentence model; may have no rows.
    options : BiEncoderOptions, optional
    seed : int
        Of the weights, the pairs and the dropout; torch's own generator is left as it is.

    Raises
    ------
    InvalidValueError
        If the training events hold no pair of either kind.
    """
    options = options or BiEncoderOptions()
    text, others, asked = (torch.from_numpy(np.ascontiguousarray(part)) for part in (texts, collaborative, queries))
    pools = [pairs for pairs in (search_pairs(histories), item_pairs(histories, window=options.window))]
    if not any(map(len, pools)):
        raise InvalidValueError(
            "nothing to train the bi-encoder on: expected a search, or two training events of one user, got none. "
            "Choose another --identifier."
        )
    n_events = sum(len(history.train_events()) for history in histories)
    n_steps = options.n_epochs * max(1, n_events // options.batch_size)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = BiEncoder(text.shape[1], others.shape[1], options)
        optimizer = torch.optim.AdamW(head.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        for _ in tqdm(range(n_steps), desc="bi-encoder", unit="step", leave=False, disable=None):
            losses = []
            for kind, pool in enumerate(pools):
                if len(pool):
                    pairs = torch.from_numpy(pool[rng.integers(len(pool), size=options.batch_size)])
                    first, second = pairs.unbind(dim=1)
                    left = head(asked[first]) if kind == 0 else head(text[first], others[first])
                    right = head(text[second], others[second])
                    losses.append(in_batch_loss(left, right, pairs, temperature=options.temperature))
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate.step()
    head.eval()
    with torch.inference_mode():
        return Joint(head(text, others).numpy(), head(asked).numpy())


def fused_identifiers(dataset: Dataset, views: Mapping[str, FloatArray], *, recipe: Recipe, seed: int) -> Identifiers:
    """Return one ID per item for both tasks, by residual k-means of the head's embeddings; see `make_identifiers`."""
    queries = embed_texts(dataset.query_texts)
    joint = fit_biencoder(dataset.histories, views["semantic"], views["collaborative"], queries, seed=seed).items
    n_levels, size = shape_of_ids(dataset.n_items, recipe)
    quantizer = semid.ResidualKMeans(n_levels, size, seed=seed, progress=True).fit(joint)
    return unique_identifiers(dataset, quantizer, joint, views=tuple(views), policy=recipe.policy)
