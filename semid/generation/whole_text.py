"""The plain way: no cache; each step reads prompts and answers from their first token."""

from typing import Any, final

import torch
from transformers.modeling_outputs import BaseModelOutput

from semid._arrays import IntArray
from semid.generation.body import features_of
from semid.generation.forward import Forward
from semid.generation.interface import forward_arguments

__all__ = ["WholeText"]

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
        return [
            features_of(self.model, self.model(**self._arguments(request, part)))[:, -1] for part in texts.split(n_rows)
        ]

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
