"""A small decoder-only model, trained on whole merged histories: every event is a target of one of the two tasks.

A history is one sequence, so its past is computed once for all its targets; an encoder-decoder reads it again for each
of them. What a target may see is strictly earlier. MovieLens users rate many films in one second, so the order of the
tokens alone would let an event see others of its own second. A mask forbids it:

    token i sees token j   if   time(j) < time(i),   or both are of one event and j <= i

In the evaluation no mask is needed: a prompt is cut off before the target's second.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Phi3Config, Phi3ForCausalLM

from .backbone import IGNORED, Backbone, Batch
from .dataset import History
from .events import draw_forms, event_parts
from .language import Language

__all__ = ["CausalBackbone", "TokenRow", "strict_mask"]


class TokenRow(NamedTuple):
    """One window of a history; four lists with an entry per token.

    Attributes
    ----------
    tokens, labels : list of int
        `labels` repeats the tokens that are targets and is `IGNORED` elsewhere.
    moment : list of int
        Number of the token's second among the user's seconds.
    event : list of int
        Number of the token's event.
    """

    tokens: list[int]
    labels: list[int]
    moment: list[int]
    event: list[int]


def strict_mask(moment: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    """Return who sees whom, shape (batch, 1, length, length), dtype bool, for (batch, length) numbers of tokens."""
    length = moment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=moment.device).tril()
    own = (event[:, :, None] == event[:, None, :]) & causal
    earlier = moment[:, None, :] < moment[:, :, None]
    return (own | earlier).unsqueeze(1)


@final
class CausalBackbone(Backbone):
    """Decoder-only. The shape is Phi-3's, a Llama with dropout on the residual branches."""

    def build(self, tokenizer: Any) -> Phi3ForCausalLM:
        """Return the model."""
        recipe = self.recipe
        return Phi3ForCausalLM(
            Phi3Config(
                vocab_size=len(tokenizer),
                hidden_size=recipe.hidden_size,
                intermediate_size=recipe.mlp_size,
                num_hidden_layers=recipe.n_layers,
                num_attention_heads=recipe.n_heads,
                num_key_value_heads=recipe.n_heads,
                resid_pdrop=recipe.dropout,
                # On a CPU, dropout inside the attention switches torch to a path three times slower as a whole:
                # 5,070 instead of 14,900 tokens a second (2 cores, 670k parameters, 384 tokens).
                attention_dropout=0.0,
                tie_word_embeddings=True,
                max_position_embeddings=4 * recipe.max_tokens,
                original_max_position_embeddings=4 * recipe.max_tokens,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=None,
            )
        )

    def draw(self, histories: Sequence[History], language: Language, rng: np.random.Generator) -> list[TokenRow]:
        """Return the histories, cut into windows of at most `max_tokens` tokens.

        The first window of a history is of random length, so that the cuts fall elsewhere in every epoch; and so do the
        events of one second, whose order is unknown.
        """
        rows = []
        for history in histories:
            forms = draw_forms(history, rng, search_share=self.recipe.search_share)
            row, room = TokenRow([], [], [], []), int(rng.integers(self.recipe.max_tokens // 4, self.recipe.max_tokens))
            train = history.train_events()
            moments = np.unique(history.time[train], return_inverse=True)[1]
            for event in train[np.lexsort((rng.random(len(train)), moments))]:
                head, sid = event_parts(language, history, event, as_search=bool(forms[event]))
                width = len(head) + len(sid)
                if len(row.tokens) + width > room and row.tokens:
                    rows.append(row)
                    row, room = TokenRow([], [], [], []), self.recipe.max_tokens
                row.tokens.extend([*head, *sid])
                row.labels.extend([IGNORED] * len(head) + sid)
                row.moment.extend([int(moments[event])] * width)
                row.event.extend([int(event)] * width)
            if row.tokens:
                rows.append(row)
        return rows

    def n_tokens(self, sample: TokenRow) -> int:
        """Return the length of a window."""
        return len(sample.tokens)

    def collate(self, samples: Sequence[TokenRow], *, pad: int) -> Batch:
        """Return input_ids, labels, moment and event, each (batch, length), dtype int64, padded on the right."""
        width = max(len(row.tokens) for row in samples)

        def stack(lists: Sequence[list[int]], filler: int) -> torch.Tensor:
            return torch.tensor([entries + [filler] * (width - len(entries)) for entries in lists])

        return {
            "input_ids": stack([row.tokens for row in samples], pad),
            "labels": stack([row.labels for row in samples], IGNORED),
            # Padding is an event of its own after all others: it sees something, and nothing sees it.
            "moment": stack([row.moment for row in samples], 2**40),
            "event": stack([row.event for row in samples], -1),
        }

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the ID tokens."""
        moment, event = batch["moment"], batch["event"]
        # Where each event has a second of its own, the order of the tokens is mask enough, and attention is faster.
        plain = bool(((moment[:, 1:] == moment[:, :-1]) == (event[:, 1:] == event[:, :-1])).all())
        mask = None if plain else strict_mask(moment, event)
        features = model.get_decoder()(
            input_ids=batch["input_ids"], attention_mask=mask, use_cache=False
        ).last_hidden_state[:, :-1]
        labels = batch["labels"][:, 1:]
        # Logits of the targets alone: the heads of the events and the padding are none.
        wanted = labels != IGNORED
        logits = model.get_output_embeddings()(features[wanted])
        return F.cross_entropy(logits, labels[wanted], label_smoothing=self.recipe.label_smoothing)
