"""The paper's kind of model, a T5: the encoder reads the merged history and the task, the decoder writes the ID."""

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch.nn import functional as F
from transformers import T5Config, T5ForConditionalGeneration

from .alignment import auxiliary_samples
from .backbone import IGNORED, Backbone, Batch
from .dataset import History, Task
from .events import draw_forms, event_parts, prompt
from .language import Language
from .recent import past_events

__all__ = ["Pair", "T5Backbone"]


class Pair(NamedTuple):
    """A prompt and the ID (or the words) that answer it, as token ids."""

    prompt: list[int]
    sid: list[int]


@final
class T5Backbone(Backbone):
    """Encoder-decoder: one target per sample, so the history is read again for every target.

    On two busy cores the small preset learns from 170 targets a second, the causal one from 1,660.
    """

    def build(self, tokenizer: Any) -> T5ForConditionalGeneration:
        """Return the model."""
        recipe = self.recipe
        return T5ForConditionalGeneration(
            T5Config(  # type: ignore[call-arg]  # any setting of generation is one of the config, too
                vocab_size=len(tokenizer),
                d_model=recipe.hidden_size,
                d_ff=recipe.mlp_size,
                d_kv=recipe.hidden_size // recipe.n_heads,
                num_layers=recipe.n_layers,
                num_decoder_layers=recipe.n_layers,
                num_heads=recipe.n_heads,
                dropout_rate=recipe.dropout,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                decoder_start_token_id=tokenizer.pad_token_id,
            )
        )

    def draw(self, histories: Sequence[History], language: Language, rng: np.random.Generator) -> list[Pair]:
        """Return one sample per training event, of either task; a history is written as in the evaluation.

        The other four tasks come behind, where the recipe has them.
        """
        pairs = []
        for history in histories:
            forms = draw_forms(history, rng, search_share=self.recipe.search_share)
            for event in history.train_events():
                task: Task = "search" if forms[event] else "recommendation"
                _, sid = event_parts(language, history, event, as_search=bool(forms[event]))
                asked = prompt(
                    language, history, event, task=task, forms=forms, max_tokens=self.recipe.max_tokens,
                    past=past_events(history, int(event), task=task, recipe=self.recipe),
                )  # fmt: skip
                pairs.append(Pair(asked, sid))
        if self.recipe.training_tasks == "six":
            more = auxiliary_samples(histories, language, rng, recipe=self.recipe, n_samples=len(pairs))
            pairs += [Pair(*sample) for sample in more]
        return pairs

    def n_tokens(self, sample: Pair) -> int:
        """Return the length of encoder and decoder inputs."""
        return len(sample.prompt) + len(sample.sid)

    def collate(self, samples: Sequence[Pair], *, pad: int) -> Batch:
        """Return input_ids and attention_mask (batch, length) and labels (batch, answer), dtype int64."""
        longest = max(len(pair.sid) for pair in samples)
        width = max(len(pair.prompt) for pair in samples)
        lengths = torch.tensor([len(pair.prompt) for pair in samples])
        return {
            "input_ids": torch.tensor([pair.prompt + [pad] * (width - len(pair.prompt)) for pair in samples]),
            "attention_mask": (torch.arange(width) < lengths[:, None]).long(),
            "labels": torch.tensor([pair.sid + [IGNORED] * (longest - len(pair.sid)) for pair in samples]),
        }

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the tokens of the answers."""
        logits = model(**batch).logits
        return F.cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED,
            label_smoothing=self.recipe.label_smoothing,
        )  # fmt: skip
