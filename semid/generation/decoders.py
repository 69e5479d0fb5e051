"""The ways to run a model: beams as positions of one row, as rows that copy a cache, or as whole texts."""

from collections.abc import Callable
from typing import Any, Self, final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from transformers.modeling_outputs import BaseModelOutput

from semid._arrays import IntArray
from semid.errors import InvalidValueError, SemidError
from semid.generation.forward import Body, Forward, features_of, reorder
from semid.generation.interface import forward_arguments, plain_cache, windows

__all__ = ["EncoderDecoder", "RowDecoder", "TreeDecoder", "WholeText"]


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
        return self._read_levels([rows], [tokens])[0]

    def _read_levels(self, rows: list[IntArray], tokens: list[IntArray]) -> list[torch.Tensor]:
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
        self.shared = self.shared and mark_shared(self.cache)
        return features

    def step(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append a token to each beam."""
        return self._append(rows, tokens[..., None])[:, -1]

    def _read_levels(self, rows: list[IntArray], tokens: list[IntArray]) -> list[torch.Tensor]:
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


@final
class SharedStates(torch.Tensor):
    """Keys or values of shape (batch, heads, length, dim) that attention may meet with batch * width rows of queries.

    Row ``r`` of the queries belongs to request ``r // width``. The rows of a request become query positions of one row,
    so that nothing is repeated. Only the operations of Hugging Face's ``sdpa`` and ``eager`` attention are known here;
    `probe.abilities` makes sure that a model gets by with them. Being a property of the tensor, this changes neither
    the model nor any other thread.
    """

    @classmethod
    def of(cls, states: torch.Tensor) -> Self:
        """Wrap keys or values without copying them."""
        return states.as_subclass(cls)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Fold the rows of a request into one where attention asks for it; all else is done as on plain tensors."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func is torch.nn.functional.scaled_dot_product_attention:
                return _sdpa(*(_plain(a) for a in args), **{name: _plain(value) for name, value in kwargs.items()})
            if func in {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__}:
                return _matmul(*(_plain(a) for a in args))
            result = func(*(_plain(a) for a in args), **kwargs)
        # Eager attention turns the keys before it multiplies by them.
        return cls.of(result) if func is torch.Tensor.transpose else result


def mark_shared(cache: Any) -> bool:
    """Mark the cross-attention states of an `EncoderDecoderCache` as shared; False if the cache is of another kind."""
    cross = getattr(cache, "cross_attention_cache", None)
    layers = getattr(cross, "layers", [])
    # A layer that is not updated would compute its keys again from the encoding, of which a step passes only the shape.
    updated = getattr(cache, "is_updated", {})
    if not layers or not all(updated.get(at) and layer.is_initialized for at, layer in enumerate(layers)):
        return False
    for layer in layers:
        layer.keys, layer.values = SharedStates.of(layer.keys), SharedStates.of(layer.values)
    return True


def _plain(value: Any) -> Any:
    return value.as_subclass(torch.Tensor) if isinstance(value, SharedStates) else value


def _fold(rows: torch.Tensor, batch: int) -> torch.Tensor:
    """Turn (batch * width, heads, n, dim) into (batch, heads, width * n, dim)."""
    n_rows, heads, n, dim = rows.shape
    return rows.reshape(batch, n_rows // batch, heads, n, dim).transpose(1, 2).reshape(batch, heads, -1, dim)


def _unfold(folded: torch.Tensor, n_rows: int, n: int) -> torch.Tensor:
    batch, heads, _, dim = folded.shape
    return folded.reshape(batch, heads, n_rows // batch, n, dim).transpose(1, 2).reshape(n_rows, heads, n, dim)


def _sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: Any = None, **options: Any
) -> torch.Tensor:
    batch, (n_rows, _, n, _) = len(key), query.shape
    if attn_mask is not None and attn_mask.shape[0] == n_rows != batch:
        # What a beam may see of the prompt is the same for all beams of a request, and for all its positions.
        attn_mask = attn_mask.unflatten(0, (batch, -1))[:, 0][:, :, :1]
    elif attn_mask is not None:
        attn_mask = attn_mask[:, :, :1]
    attend = torch.nn.functional.scaled_dot_product_attention
    return _unfold(attend(_fold(query, batch), key, value, attn_mask=attn_mask, **options), n_rows, n)


def _matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return _unfold(torch.matmul(_fold(left, len(right)), right), len(left), left.shape[2])


# Logits that one pass may return, where a model returns those of every position: 512 MiB of float32.
MOST_LOGITS = 1 << 27


@final
class WholeText(Forward):
    """Call the model as ``generate`` does with ``use_cache=False``, on each request alone.

    A decoder-only model reads each prompt without its padding. An encoder reads the padding, masked, as in
    ``generate``: some encoders count positions from the first column.

    This way uses the model's public call and nothing else. `probe` compares the faster ways with it, and a model that
    none of them suits is run by it. It is slow: a step costs as much as the prompt, for each beam.

    Parameters
    ----------
    model : transformers model
    input_ids, attention_mask : torch.Tensor of shape (batch, length)
    decoder_input_ids : torch.Tensor of shape (batch, start length), optional
        What the answers of an encoder-decoder begin with.
    encoded : torch.Tensor of shape (batch, length, dim), optional
        What the encoder wrote, if it has run already.
    """

    def __init__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *,
        decoder_input_ids: torch.Tensor | None = None,
        encoded: torch.Tensor | None = None,
    ) -> None:
        self.model = model = getattr(model, "_orig_mod", model)
        self.device = input_ids.device
        self.batch = len(input_ids)
        self.width = 1
        self.input_ids, self.mask, self.encoded = input_ids, attention_mask, encoded
        # What grows by a token per step: the prompt itself, or the answer beside it.
        self.encoder_decoder = decoder_input_ids is not None
        self.texts = [row[own][None] for row, own in zip(input_ids, attention_mask.bool(), strict=True)]
        if decoder_input_ids is not None:
            self.texts = [row[None] for row in decoder_input_ids.to(self.device)]
        accepted = forward_arguments(model)
        self.options: dict[str, Any] = {"use_cache": False, "return_dict": True}
        self.one_position = "logits_to_keep" in accepted
        if self.one_position:
            self.options["logits_to_keep"] = 1
        # Wrappers such as PEFT's add their virtual tokens in `forward`, and would add them again to prepared inputs.
        wrapped = hasattr(model, "get_base_model")
        self.prepare = None if wrapped else getattr(model, "prepare_inputs_for_generation", None)

    def prompt(self) -> torch.Tensor:
        """Read the prompts; return the logits of the next token."""
        return self._read()

    def step(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append a token to each beam."""
        self.width = tokens.shape[1]
        parents, new = (torch.from_numpy(array).to(self.device) for array in (rows, tokens))
        self.texts = [
            torch.cat([text[own], added[:, None]], dim=1)
            for text, own, added in zip(self.texts, parents, new, strict=True)
        ]
        return self._read()

    def _read(self) -> torch.Tensor:
        """Return the logits after all texts, shape (batch * width, vocabulary)."""
        return torch.cat([part for request in range(self.batch) for part in self._read_request(request)])

    def _read_request(self, request: int) -> list[torch.Tensor]:
        texts = self.texts[request]
        per_row = self.model.config.get_text_config().vocab_size * (1 if self.one_position else texts.shape[1])
        n_rows = max(1, MOST_LOGITS // per_row)
        return [self._call(request, part) for part in texts.split(n_rows)]

    def _call(self, request: int, texts: torch.Tensor) -> torch.Tensor:
        try:
            return features_of(self.model, self.model(**self._arguments(request, texts)))[:, -1]
        except (torch.OutOfMemoryError, SemidError):
            raise
        except Exception as error:
            raise InvalidValueError(
                f"{type(self.model).__name__} fails on a plain forward pass of {len(texts)} texts: expected logits, "
                f"got {type(error).__name__}: {str(error)[:300]}. Call model(input_ids=..) yourself to see more."
            ) from error

    def _arguments(self, request: int, texts: torch.Tensor) -> dict[str, Any]:
        if self.encoder_decoder:
            read: dict[str, Any] = {"input_ids": self.input_ids[request].expand(len(texts), -1)}
            if self.encoded is not None:
                encoded = self.encoded[request].expand(len(texts), -1, -1)
                read = {"encoder_outputs": BaseModelOutput(last_hidden_state=encoded)}
            mask = self.mask[request].expand(len(texts), -1)
            return {**read, "attention_mask": mask, "decoder_input_ids": texts, **self.options}
        mask = torch.ones_like(texts)
        if self.prepare is None:
            return {"input_ids": texts, "attention_mask": mask, **self.options}
        prepared: dict[str, Any] = self.prepare(texts, attention_mask=mask, is_first_iteration=True, **self.options)
        return prepared
