"""Decoder-only models: beams as positions of the prompt's own row or, failing that, as rows that copy its cache."""

from typing import Any, final
from weakref import WeakKeyDictionary

import numpy as np
import torch

from semid._arrays import IntArray
from semid.generation.body import Body
from semid.generation.forward import Forward, reorder
from semid.generation.interface import plain_cache, windows

__all__ = ["RowDecoder", "TreeDecoder"]


@final
class RowDecoder(Forward):
    """Beams share the cache of the prompt until the first step copies it to a row of each: works with any cache."""

    def __init__(self, body: Body, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> None:
        self.body = body
        self.input_ids = input_ids
        self.mask = attention_mask
        self.batch = len(input_ids)
        self.width = 1
        self.cache: Any = None
        self.next_position = attention_mask.sum(dim=1, keepdim=True)

    def prompt(self) -> torch.Tensor:
        """Read the prompts; return the features of the next token."""
        return self._run(self.input_ids, positions_of(self.mask))

    def step(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append a token to each beam."""
        reorder(self.cache, rows, self.width)
        width = tokens.shape[1]
        if width != self.width:
            # All beams of a request have the same mask and position.
            request = torch.arange(self.batch, device=self.mask.device).repeat_interleave(width) * self.width
            self.mask, self.next_position = self.mask[request], self.next_position[request]
            self.width = width
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        features = self._run(torch.from_numpy(tokens).reshape(-1, 1).to(self.mask.device), self.next_position)
        self.next_position = self.next_position + 1
        return features

    def _run(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        features, self.cache = self.body.read(
            input_ids, attention_mask=self.mask, position_ids=position_ids, cache=self.cache
        )
        return features[:, -1]


@final
class TreeDecoder(Forward):
    """Tree attention: a request keeps one row, in which each beam sees the prompt and its own ancestors alone.

    The beams of a level stand side by side in the cache and have the same position. What a beam may see is a matter of
    the mask, so the cache is neither copied nor reordered; the columns of dropped beams stay, unseen.
    """

    def __init__(self, body: Body, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> None:
        self.body = body
        self.input_ids = input_ids
        self.mask = attention_mask
        self.batch = len(input_ids)
        self.windows = windows_of(body.model)
        self.far = any(window is not None for window in self.windows.values())
        # Layers that forget what has left their window would count the beams beside a beam as its past; so all layers
        # keep everything, and the mask closes what is too far away.
        self.cache = plain_cache()
        self.padded = not attention_mask.all()
        self.positions = positions_of(attention_mask)
        self.position = self.positions[:, -1:]  # that of the last level: its beams have one position
        self.width = 1
        self.closed = torch.finfo(body.dtype).min
        # What the last level adds to its attention scores, shape (batch * width, seen columns): 0 for what a beam sees.
        self.bias = torch.zeros(attention_mask.shape, dtype=body.dtype, device=body.device)
        self.themselves = self.bias[:0]  # the same for the columns of a new level

    def prompt(self) -> torch.Tensor:
        """Read the prompts; return the features of the next token."""
        # A mask that hides nothing is left away, as `generate` does: attention has a faster way without one.
        if self.padded:
            self.bias.masked_fill_(self.mask == 0, self.closed)
        features, self.cache = self.body.read(
            self.input_ids,
            attention_mask=self.mask if self.padded else None,
            position_ids=self.positions,
            cache=self.cache,
        )
        return features[:, -1]

    def step(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append a token to each beam."""
        return self.levels([rows], [tokens])[0]

    def levels(self, rows: list[IntArray], tokens: list[IntArray]) -> list[torch.Tensor]:
        """Read all levels of a tree in one forward pass."""
        masks, position_ids = [], []
        for level in rows:
            masks.append(self._descend(level))
            self.position = self.position + 1
            position_ids.append(self.position.expand(-1, self.width))
        mask, new_positions = masks[0], position_ids[0]
        if len(rows) > 1:
            # Shallower levels do not see the columns of deeper ones.
            seen = masks[-1].shape[2]
            pad = torch.nn.functional.pad
            mask = torch.cat([pad(mask, (0, seen - mask.shape[2]), value=self.closed) for mask in masks], dim=1)
            new_positions = torch.cat(position_ids, dim=1)
        new_tokens = tokens[0] if len(tokens) == 1 else np.concatenate(tokens, axis=1)
        features, self.cache = self.body.read(
            torch.from_numpy(new_tokens).to(self.body.device),
            attention_mask=self._with_windows(mask, new_positions) if self.far else mask[:, None],
            position_ids=new_positions,
            cache=self.cache,
            last=False,
        )
        if len(rows) == 1:
            return [features.flatten(0, 1)]
        return [part.flatten(0, 1) for part in torch.split(features, [level.shape[1] for level in rows], dim=1)]

    def _descend(self, parents: IntArray) -> torch.Tensor:
        """Return what the beams of the next level add to their scores: (batch, width, seen columns).

        They see what their parents see, and themselves.
        """
        width = parents.shape[1]
        if self.batch > 1:
            parents = parents + np.arange(self.batch)[:, None] * self.width
        inherited = self.bias.index_select(0, torch.from_numpy(parents.reshape(-1)).to(self.body.device))
        if len(self.themselves) != len(inherited):
            own = inherited.new_full((width, width), self.closed).fill_diagonal_(0)
            self.themselves = own if self.batch == 1 else own.repeat(self.batch, 1)
        self.bias, self.width = torch.cat([inherited, self.themselves], dim=1), width
        return self.bias.view(self.batch, width, -1)

    def _with_windows(self, mask: torch.Tensor, position_ids: torch.Tensor) -> Any:
        """Close what is too far away; one mask per type of layer if the model has several."""
        self.positions = torch.cat([self.positions, position_ids], dim=1)
        distance = position_ids[:, :, None] - self.positions[:, None, :]
        by_type = {
            layer_type: (mask if window is None else mask.masked_fill(distance >= window, self.closed))[:, None]
            for layer_type, window in self.windows.items()
        }
        return by_type if len(by_type) > 1 else next(iter(by_type.values()))


# With the setting that they depend on, should it change.
_windows: WeakKeyDictionary[Any, tuple[Any, dict[str, int | None]]] = WeakKeyDictionary()


def windows_of(model: Any) -> dict[str, int | None]:
    """Return how far the layers of each type look back; None for no limit."""
    config = model.config.get_text_config(decoder=True)
    setting = getattr(config, "sliding_window", None)
    known = _windows.get(model)
    if known is None or known[0] != setting:
        known = _windows[model] = setting, windows(config)
    return known[1]


def positions_of(attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the position of each token; padding stands on the left and does not count."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
