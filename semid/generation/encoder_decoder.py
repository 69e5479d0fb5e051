"""Encoder-decoders: the encoder reads the prompt once, and all beams of a request read one copy of what it wrote."""

from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from semid._arrays import IntArray
from semid.generation.body import Body
from semid.generation.forward import Forward, reorder
from semid.generation.shared_states import share

__all__ = ["EncoderDecoder"]


@final
class EncoderDecoder(Forward):
    """Beams are rows of the decoder alone.

    Parameters
    ----------
    body : Body
    input_ids, attention_mask : torch.Tensor of shape (batch, length)
    shared : bool
        Let the beams of a request read one copy of the cross-attention's keys and values, see `SharedStates`; otherwise
        each beam gets its own, which any model can work with. The cache of the answer, a few tokens, follows the beams.
    decoder_input_ids : torch.Tensor of shape (batch, start length)
    encoded : torch.Tensor of shape (batch, length, dim), optional
        What the encoder wrote, if it has run already.
    """

    def __init__(
        self,
        body: Body,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *,
        shared: bool,
        decoder_input_ids: torch.Tensor,
        encoded: torch.Tensor | None = None,
    ) -> None:
        self.body = body
        self.input_ids = input_ids
        self.mask = attention_mask
        self.batch = len(attention_mask)
        self.shared = shared
        self.width = 1
        self.cache: Any = None
        self.encoded = encoded
        self.decoder_input_ids = decoder_input_ids.to(attention_mask.device)

    def prompt(self) -> torch.Tensor:
        """Encode the prompts; return the features of the first token of the answer."""
        if self.encoded is None:
            self.encoded = self.body.encode(self.input_ids, self.mask)
        features = self._run(self.decoder_input_ids)[:, -1]
        self.shared = self.shared and share(self.cache)
        return features

    def step(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append a token to each beam."""
        return self._append(rows, tokens[..., None])[:, -1]

    def levels(self, rows: list[IntArray], tokens: list[IntArray]) -> list[torch.Tensor]:
        """Read the path to each node of the last level as a row, all in one pass.

        The decoders number positions by the columns of their input, so that the nodes of a level cannot stand side by
        side in one row. A node that several paths share is read once in each: a few tokens more instead of a pass more.
        """
        batch, width = rows[-1].shape
        at: npt.NDArray[np.int64] = np.tile(np.arange(width), (batch, 1))
        paths: npt.NDArray[np.int64] = np.empty((batch, width, len(rows)), np.int64)
        first: list[torch.Tensor] = []
        for depth in reversed(range(len(rows))):
            paths[..., depth] = np.take_along_axis(tokens[depth], at, axis=1)
            below = np.zeros(tokens[depth].shape, np.int64)  # the first path through each node
            np.put_along_axis(below, at[:, ::-1], np.arange(width)[None, ::-1], axis=1)
            first.insert(0, torch.from_numpy(below + width * np.arange(batch)[:, None]).flatten())
            at = np.take_along_axis(rows[depth], at, axis=1).astype(np.int64)
        features = self._append(at, paths)
        return [features[path.to(features.device), depth] for depth, path in enumerate(first)]

    def _append(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append tokens (batch, width, n) to beams; return features of shape (batch * width, n, dim)."""
        reorder(self.cache.self_attention_cache if self.shared else self.cache, rows, self.width)
        width = tokens.shape[1]
        if width != self.width and self.encoded is not None:
            # All beams of a request have the same prompt. Its keys and values are in the cache; models read no more
            # than the shape of the encoding now, but it has to agree.
            request = torch.arange(self.batch, device=self.mask.device).repeat_interleave(width) * self.width
            self.mask = self.mask[request]
            self.encoded = self.encoded[:1].expand(len(request), -1, -1) if self.shared else self.encoded[request]
            self.width = width
        return self._run(torch.from_numpy(tokens).flatten(0, 1).to(self.mask.device))

    def _run(self, decoder_input_ids: torch.Tensor) -> torch.Tensor:
        features, self.cache = self.body.answer(
            decoder_input_ids, encoded=self.encoded, attention_mask=self.mask, cache=self.cache
        )
        return features
