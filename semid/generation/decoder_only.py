"""Decoder-only models: beams as positions of the prompt's own row or, failing that, as rows that copy its cache."""

from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from semid.generation.body import Body
from semid.generation.forward import Forward, reorder

__all__ = ["RowDecoder", "TreeDecoder", "can_read_trees"]

IntArray = npt.NDArray[np.integer[Any]]


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
        self.batch, self.length = input_ids.shape
        config = body.model.config.get_text_config(decoder=True)
        self.windows = windows_of(config)
        # Layers that forget what has left their window would count the beams beside a beam as its past; so all layers
        # keep everything, and the mask closes what is too far away.
        self.cache: Any = DynamicCache()
        self.positions = positions_of(attention_mask)
        self.visible = attention_mask.bool()[:, None].expand(-1, 1, -1)  # (batch, width, seen columns)

    def prompt(self) -> torch.Tensor:
        """Read the prompts; return the features of the next token."""
        # A mask that hides nothing is left away, as `generate` does: attention has a faster way without one.
        mask = None if self.mask.all() else self.mask
        features, self.cache = self.body.read(
            self.input_ids, attention_mask=mask, position_ids=self.positions, cache=self.cache
        )
        return features[:, -1]

    def step(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append a token to each beam."""
        return self.levels([rows], [tokens])[0]

    def levels(self, rows: list[IntArray], tokens: list[IntArray]) -> list[torch.Tensor]:
        """Read all levels of a tree in one forward pass."""
        device = self.mask.device
        widths = [level.shape[1] for level in tokens]
        visible, position = self.visible, self.positions[:, -1:]  # the beams of a level have one position
        masks, position_ids = [], []
        for width, parents in zip(widths, rows, strict=True):
            parent = torch.from_numpy(np.ascontiguousarray(parents)).to(device)[..., None]
            inherited = visible.gather(1, parent.expand(-1, -1, visible.shape[2]))
            own = torch.eye(width, dtype=torch.bool, device=device).expand(self.batch, -1, -1)
            visible = torch.cat([inherited, own], dim=2)
            masks.append(visible)
            position = position + 1
            position_ids.append(position.expand(-1, width))
        self.visible = visible
        seen = visible.shape[2]
        # Shallower levels do not see the columns of deeper ones.
        seen_by_all = torch.cat([torch.nn.functional.pad(mask, (0, seen - mask.shape[2])) for mask in masks], dim=1)
        new_positions = torch.cat(position_ids, dim=1)
        self.positions = torch.cat([self.positions, new_positions], dim=1)
        features, self.cache = self.body.read(
            torch.from_numpy(np.concatenate(tokens, axis=1)).to(device),
            attention_mask=self._attention_mask(seen_by_all, new_positions),
            position_ids=new_positions,
            cache=self.cache,
            last=False,
        )
        return [part.reshape(-1, part.shape[-1]) for part in torch.split(features, widths, dim=1)]

    def _attention_mask(self, visible: torch.Tensor, position_ids: torch.Tensor) -> Any:
        """Return the mask that the model adds to its attention scores, one per type of layer if it has several."""
        dtype = self.body.model.dtype
        by_type = {}
        for layer_type, window in self.windows.items():
            shown = visible
            if window is not None:
                shown = visible & (position_ids[:, :, None] - self.positions[:, None, :] < window)
            mask = torch.zeros(shown.shape, dtype=dtype, device=shown.device)
            by_type[layer_type] = mask.masked_fill_(~shown, torch.finfo(dtype).min)[:, None]
        return by_type if len(by_type) > 1 else next(iter(by_type.values()))


def can_read_trees(model: Any) -> bool:
    """Tell whether all layers of a model attend through a mask that the caller may give; `probe` then tries it."""
    config = model.config.get_text_config(decoder=True)
    if getattr(config, "_attn_implementation", None) not in {"sdpa", "eager"}:
        return False  # flash attention takes no mask of four dimensions
    # The exact types: subclasses have states besides keys and values.
    return all(type(layer) in {DynamicLayer, DynamicSlidingWindowLayer} for layer in DynamicCache(config=config).layers)


def windows_of(config: Any) -> dict[str, int | None]:
    """Return how far the layers of each type look back; None for no limit."""
    cache = DynamicCache(config=config)
    windows = [getattr(layer, "sliding_window", None) for layer in cache.layers] or [None]
    types = getattr(config, "layer_types", None) or ["all"] * len(windows)
    return dict(zip(types, windows, strict=True)) if len(set(types)) > 1 else {"all": windows[0]}


def positions_of(attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the position of each token; padding stands on the left and does not count."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
