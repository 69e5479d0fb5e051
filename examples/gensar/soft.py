"""Soft inputs: embeddings of queries and items are added to the rows of their tokens.

    query   x = E[t] + W_q f_q             f_q   embedding of the query's text; t is the query's only token
    item    x = E[t] + W_i f_i + R[i]      f_i   text and collaborative embedding of the item, side by side
                                           R     a row per item, learnt; t is the last token of the item's ID

A model with random weights would have to learn the meaning of words from a few hundred queries; a sentence model knows
it. And an ID is coarse: the items of one cluster begin alike, and the last code of a crowded cluster says little. Soft
inputs change only what the model reads. The output layer is the plain table E, and an item is found by its codes.

Item features are added at the last token of a whole ID. While an ID is generated, that token is not read, since it is
the last one written. So decoding works without any change.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from semid.errors import InvalidValueError

from .dataset import Task
from .presets import Recipe

__all__ = ["SoftEmbedding", "features_of", "load_model", "soften"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def features_of(views: Mapping[str, FloatArray]) -> FloatArray:
    """Return the centred views side by side, shape (n_items, sum of the dims), dtype float32."""
    return np.concatenate([view - view.mean(axis=0) for view in views.values()], axis=1).astype(np.float32)


@final
class SoftEmbedding(torch.nn.Embedding):
    """The embedding table of a model, with features of queries and items added.

    Parameters
    ----------
    n_tokens, dim : int
        Of the table.
    n_queries, query_dim : int
    n_items, item_dim : int
        Dimensions of the features.
    n_ids, n_levels : int
        An item has one ID per view; equal IDs count once.
    dropout : float
        Of the sum.
    row_dropout : float
        Share of the rows R that training drops, so that the model learns to use the features.
    """

    def __init__(
        self, n_tokens: int, dim: int, *, n_queries: int, query_dim: int, n_items: int, item_dim: int, n_ids: int,
        n_levels: int, dropout: float = 0.0, row_dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(n_tokens, dim)
        self.first_query: torch.Tensor
        self.query_features: torch.Tensor
        self.item_features: torch.Tensor
        self.ids: torch.Tensor
        self.item_of_id: torch.Tensor
        self.levels: torch.Tensor
        self.dropout, self.row_dropout = dropout, row_dropout
        self.query_map = torch.nn.Linear(query_dim, dim, bias=False)
        self.item_map = torch.nn.Linear(item_dim, dim, bias=False)
        self.item_rows = torch.nn.Embedding(n_items, dim)
        for weight in (self.query_map.weight, self.item_map.weight, self.item_rows.weight):
            torch.nn.init.normal_(weight, std=0.02)  # as transformers draws the table
        self.register_buffer("first_query", torch.zeros((), dtype=torch.long))
        self.register_buffer("query_features", torch.zeros(n_queries, query_dim))
        self.register_buffer("item_features", torch.zeros(n_items, item_dim))
        # The IDs as numbers in ascending order, and the item of each.
        self.register_buffer("ids", torch.zeros(n_ids, dtype=torch.long))
        self.register_buffer("item_of_id", torch.zeros(n_ids, dtype=torch.long))
        self.register_buffer("levels", torch.zeros(n_levels, dtype=torch.long))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the inputs of the first layer, shape (rows, length, dim), for tokens of shape (rows, length)."""
        summed = super().forward(input)
        query = input - self.first_query
        at = ((query >= 0) & (query < len(self.query_features))).nonzero(as_tuple=True)
        summed = summed.index_put(at, self.query_map(self.query_features[query[at]]), accumulate=True)
        row, end, item = self._items(input)
        own = self.item_rows(item)
        if self.training and self.row_dropout:
            own = own * (torch.rand(len(own), 1, device=own.device) >= self.row_dropout)
        soft = self.item_map(self.item_features[item]) + own
        summed = summed.index_put((row, end), soft, accumulate=True)
        return F.dropout(summed, self.dropout, self.training)

    def _items(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return row, place of the last token, and item of each whole ID in the tokens."""
        n_levels = len(self.levels)
        if tokens.shape[1] < n_levels:
            nothing = tokens.new_zeros(0)
            return nothing, nothing, nothing
        number = (tokens.unfold(1, n_levels, 1) * self.levels).sum(dim=2)
        found = torch.searchsorted(self.ids, number).clamp(max=len(self.ids) - 1)
        row, begin = (self.ids[found] == number).nonzero(as_tuple=True)
        return row, begin + n_levels - 1, self.item_of_id[found[row, begin]]


def soften(
    model: Any,
    *,
    id_tokens: Mapping[Task, IntArray],
    first_query: int,
    query_features: FloatArray,
    item_features: FloatArray,
    recipe: Recipe,
) -> None:
    """Give a model soft inputs; its table keeps its rows and stays tied to the output layer.

    Parameters
    ----------
    model : PreTrainedModel
        Decoder-only; changed in place.
    id_tokens : mapping of task to ndarray of shape (n_items, n_levels), dtype int64
    first_query : int
        Token of query 0; the others follow.
    query_features : ndarray of shape (n_queries, query_dim), dtype float32
    item_features : ndarray of shape (n_items, item_dim), dtype float32
    recipe : Recipe
        With `input_dropout` and `row_dropout`.

    Raises
    ------
    InvalidValueError
        If IDs have too many levels for 64 bits.
    """
    table = model.get_input_embeddings()
    n_tokens, n_items = table.weight.shape[0], len(item_features)
    n_levels = next(iter(id_tokens.values())).shape[1]
    if n_tokens**n_levels >= 2**63:
        raise InvalidValueError(
            f"IDs do not fit into 64 bits: expected fewer levels, got {n_levels} over {n_tokens} tokens. "
            "Pass --inputs tokens."
        )
    levels = n_tokens ** np.arange(n_levels)[::-1]
    numbers, first = np.unique(np.concatenate([tokens @ levels for tokens in id_tokens.values()]), return_index=True)
    soft = SoftEmbedding(
        n_tokens, table.weight.shape[1], n_queries=len(query_features), query_dim=query_features.shape[1],
        n_items=n_items, item_dim=item_features.shape[1], n_ids=len(numbers), n_levels=n_levels,
        dropout=recipe.input_dropout, row_dropout=recipe.row_dropout,
    )  # fmt: skip
    soft.weight = table.weight
    soft.first_query.fill_(first_query)
    soft.query_features.copy_(torch.from_numpy(query_features))
    soft.item_features.copy_(torch.from_numpy(item_features))
    soft.ids.copy_(torch.from_numpy(numbers))
    soft.item_of_id.copy_(torch.from_numpy(first % n_items))
    soft.levels.copy_(torch.from_numpy(np.ascontiguousarray(levels)))
    model.set_input_embeddings(soft)
    model.tie_weights()


def load_model(folder: Path) -> Any:
    """Return the model of a run's folder ``model/``, soft inputs included, in evaluation mode.

    ``from_pretrained`` would drop them, because transformers does not know the layer.
    """
    weights = load_file(folder / "model.safetensors")
    shapes = {name.rpartition("embed_tokens.")[2]: tensor.shape for name, tensor in weights.items()}
    if "item_rows.weight" not in shapes:
        return AutoModelForCausalLM.from_pretrained(folder).eval()  # type: ignore[no-untyped-call]
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))  # type: ignore[no-untyped-call]
    (n_queries, query_dim), (n_items, item_dim) = shapes["query_features"], shapes["item_features"]
    soft = SoftEmbedding(
        *shapes["weight"], n_queries=n_queries, query_dim=query_dim, n_items=n_items, item_dim=item_dim,
        n_ids=shapes["ids"][0], n_levels=shapes["levels"][0],
    )  # fmt: skip
    model.set_input_embeddings(soft)
    model.load_state_dict(weights, strict=False)  # the output layer is the table, which is written once
    model.tie_weights()
    return model.eval()
