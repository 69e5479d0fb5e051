"""The two kinds of language model: a small decoder-only one, and the paper's encoder-decoder.

Both are behind one interface: how the model is built, how its training data are drawn, and what its loss is.

Decoder-only (`CausalBackbone`). It learns from whole histories, in which every event is a target of one of the tasks. A
history is one sequence, so its past is computed once for all its targets. What a target may see is strictly earlier,
but MovieLens users rate many films in one second, so causal attention alone would let an event see others of its own
second. A mask forbids it:

    token i sees token j   if   time(j) < time(i),   or both are of one event and j <= i

The evaluation needs no such mask: a prompt ends before the target's second.

Encoder-decoder (`T5Backbone`). The encoder reads the history and the task, the decoder writes the ID. Each sample has
one target, so a history is read again for every target.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Phi3Config, Phi3ForCausalLM, T5Config, T5ForConditionalGeneration

from .dataset import Dataset, History, Task
from .identifiers import Identifiers
from .language import (
    Language,
    PastRule,
    draw_forms,
    event_parts,
    make_tokenizer,
    prompt,
    query_token,
    strict_past,
    teach_ids,
)
from .presets import BackboneName, Recipe
from .soft import FloatArray, features_of, soften
from .views import embed_texts

__all__ = [
    "BACKBONE_OF",
    "IGNORED",
    "Backbone",
    "Batch",
    "CausalBackbone",
    "Pair",
    "Reader",
    "T5Backbone",
    "TokenRow",
    "make_reader",
    "strict_mask",
]

Batch = Mapping[str, torch.Tensor]

# The label of a token that is not a target, as in torch's cross-entropy.
IGNORED = -100

MoreSamples = Callable[..., Sequence[tuple[list[int], list[int]]]]


class Backbone(ABC):
    """A kind of language model.

    An epoch is drawn as a list of samples, grouped into batches of about equal numbers of tokens, and each batch is
    turned into the model's inputs. What a sample is depends on the backbone.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @abstractmethod
    def build(self, tokenizer: Any) -> Any:
        """Return a Hugging Face model from a config, with random weights and one embedding row per token."""

    @abstractmethod
    def draw(self, histories: Sequence[History], language: Language, rng: np.random.Generator) -> list[Any]:
        """Return one epoch's samples: every training event once, its form drawn anew."""

    @abstractmethod
    def n_tokens(self, sample: Any) -> int:
        """Return the number of input tokens of a sample."""

    @abstractmethod
    def collate(self, samples: Sequence[Any], *, pad: int) -> Batch:
        """Return the model's inputs for a batch of samples, padded with the token `pad`."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the ID tokens, in nats per token."""

    def epoch(self, histories: Sequence[History], language: Language, rng: np.random.Generator) -> list[list[Any]]:
        """Draw an epoch and group it into batches of at most `tokens_per_step` tokens, in random order.

        Samples of similar length share a batch, so that little of it is padding.
        """
        samples = self.draw(histories, language, rng)
        lengths = np.array([self.n_tokens(sample) for sample in samples])
        batches: list[list[Any]] = []
        width = 0
        for index in np.argsort(lengths + rng.uniform(0, 0.1, len(lengths)) * lengths, kind="stable"):
            width = max(width, int(lengths[index]))
            if not batches or width * (len(batches[-1]) + 1) > self.recipe.tokens_per_step:
                batches.append([])
                width = int(lengths[index])
            batches[-1].append(samples[index])
        return [batches[index] for index in rng.permutation(len(batches))]


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

        Two things are drawn anew in every epoch: the length of a history's first window, so that the cuts move, and the
        order of the events of one second, which is unknown.
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
            # Padding is an event of its own after all others: it sees earlier tokens, and no token sees it.
            "moment": stack([row.moment for row in samples], 2**40),
            "event": stack([row.event for row in samples], -1),
        }

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the ID tokens."""
        moment, event = batch["moment"], batch["event"]
        # Where each event has a second of its own, plain causal attention is the same mask, and faster.
        plain = bool(((moment[:, 1:] == moment[:, :-1]) == (event[:, 1:] == event[:, :-1])).all())
        mask = None if plain else strict_mask(moment, event)
        features = model.get_decoder()(
            input_ids=batch["input_ids"], attention_mask=mask, use_cache=False
        ).last_hidden_state[:, :-1]
        labels = batch["labels"][:, 1:]
        # Logits of the targets only: heads of events and padding are not targets.
        wanted = labels != IGNORED
        logits = model.get_output_embeddings()(features[wanted])
        return F.cross_entropy(logits, labels[wanted], label_smoothing=self.recipe.label_smoothing)


def strict_mask(moment: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    """Return which token sees which, shape (batch, 1, length, length), dtype bool.

    Parameters
    ----------
    moment, event : Tensor of shape (batch, length), dtype int64
        Number of each token's second and of its event.
    """
    length = moment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=moment.device).tril()
    own = (event[:, :, None] == event[:, None, :]) & causal
    earlier = moment[:, None, :] < moment[:, :, None]
    return (own | earlier).unsqueeze(1)


class Pair(NamedTuple):
    """A prompt and the ID (or the words) that answer it, as token ids."""

    prompt: list[int]
    sid: list[int]


@final
class T5Backbone(Backbone):
    """Encoder-decoder: one target per sample.

    On two busy cores the small preset learns from 170 targets a second, the causal one from 1,660.

    Parameters
    ----------
    recipe : Recipe
    more_samples : callable, optional
        ``more_samples(histories, language, rng, recipe=, n_samples=)`` returns (prompt, answer) pairs of further
        training tasks, for an epoch that has `n_samples` of the two tasks.
    """

    def __init__(self, recipe: Recipe, more_samples: MoreSamples | None = None) -> None:
        super().__init__(recipe)
        self.more_samples = more_samples

    def build(self, tokenizer: Any) -> T5ForConditionalGeneration:
        """Return the model."""
        recipe = self.recipe
        return T5ForConditionalGeneration(
            T5Config(  # type: ignore[call-arg]  # settings of generation are accepted, too
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
        """Return one sample per training event, of either task, and behind them those of `more_samples`.

        A history is written as in the evaluation.
        """
        pairs = []
        for history in histories:
            forms = draw_forms(history, rng, search_share=self.recipe.search_share)
            for event in history.train_events():
                task: Task = "search" if forms[event] else "recommendation"
                _, sid = event_parts(language, history, event, as_search=bool(forms[event]))
                asked = prompt(
                    language, history, event, task=task, forms=forms, max_tokens=self.recipe.max_tokens,
                    n_recent=self.recipe.n_recent,
                )  # fmt: skip
                pairs.append(Pair(asked, sid))
        if self.more_samples is not None:
            more = self.more_samples(histories, language, rng, recipe=self.recipe, n_samples=len(pairs))
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


BACKBONE_OF: dict[BackboneName, type[CausalBackbone] | type[T5Backbone]] = {"causal": CausalBackbone, "t5": T5Backbone}


class Reader(NamedTuple):
    """A model before its training, how it is trained, and its tokens."""

    backbone: Backbone
    model: Any
    language: Language


def make_reader(
    dataset: Dataset,
    views: Mapping[str, FloatArray],
    identifiers: Identifiers,
    *,
    backbone: BackboneName,
    recipe: Recipe,
    past: PastRule = strict_past,
) -> Reader:
    """Return a model of random weights, drawn from torch's generator, that has a token for every code and query.

    Parameters
    ----------
    dataset : Dataset
    views : mapping of view to ndarray of shape (n_items, dim), dtype float32
        What soft inputs add to the tokens of an item.
    identifiers : Identifiers
    backbone : {"causal", "t5"}
    recipe : Recipe
    past : PastRule
        Which earlier events a prompt holds.
    """
    texts, soft = dataset.query_texts, recipe.inputs == "soft"
    tokenizer = make_tokenizer(() if soft else texts, n_soft_queries=len(texts) if soft else 0)
    kind = BACKBONE_OF[backbone](recipe)
    model = kind.build(tokenizer)
    language = teach_ids(tokenizer, model, identifiers, texts, soft_queries=soft, past=past)
    if soft:
        queries = features_of({"text": embed_texts(texts)}) if texts else np.zeros((0, 1), np.float32)
        soften(
            model, id_tokens=language.id_tokens, first_query=tokenizer.convert_tokens_to_ids(query_token(0)),
            query_features=queries, item_features=features_of(views), recipe=recipe,
        )  # fmt: skip
    return Reader(kind, model, language)
