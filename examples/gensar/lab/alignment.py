"""The paper's four training tasks beside the two that are evaluated, for the T5 backbone; --training-tasks six.

    task                  reads                                     writes
    next query            history, <src_query>                      words, </s>
    pseudo-query to item  <src_query> words <src_item>              the item's semantic ID
    text to ID            <item_text> words <semantic_id>           the item's semantic ID (or the collaborative one)
    ID to text            ID, <item_text>                           words, </s>

They teach the model what codes and words have to do with each other; the two main tasks learn what an ID means from the
histories only. The paper asks in sentences, here tokens name the task. Its pseudo-queries come from a Doc2Query model,
here they are a few words of the item's text, in their order.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from semid.errors import InvalidValueError

from ..dataset import Dataset, History, Task, words
from ..identifiers import Identifiers
from ..language import SRC_ITEM, SRC_QUERY, Language, PastRule, draw_forms, make_tokenizer, prompt, teach_ids
from ..models import Reader, T5Backbone
from ..presets import BackboneName, Recipe
from ..soft import FloatArray

__all__ = ["SHARES", "auxiliary_samples", "check_training_tasks", "make_reader_of_six", "tokenizer_of_six"]

# That the text of an item follows, and which of its IDs is asked for.
ITEM_TEXT = "<item_text>"
MARKERS: dict[Task, str] = {"search": "<semantic_id>", "recommendation": "<collaborative_id>"}

# Per sample of the two main tasks: 1,000, 1,000, 2,000 and 2,000 beside 930,387 + 100,000 in the released code.
SHARES = {"next query": 0.00097, "pseudo-query": 0.00097, "text to ID": 0.00194, "ID to text": 0.00194}
MAX_WORDS = 32
N_QUERY_WORDS = 3

Tokens = list[int]


def check_training_tasks(recipe: Recipe, backbone: BackboneName) -> None:
    """Raise InvalidValueError for six tasks with a backbone that learns from whole histories only."""
    if recipe.training_tasks == "six" and backbone == "causal":
        raise InvalidValueError(
            "the causal backbone learns from histories alone: expected --training-tasks two, got six. "
            "Pass --backbone t5."
        )


def make_reader_of_six(
    dataset: Dataset,
    views: Mapping[str, FloatArray],
    identifiers: Identifiers,
    *,
    backbone: BackboneName,
    recipe: Recipe,
    past: PastRule,
) -> Reader:
    """Return what `models.make_reader` returns, for a T5 that learns all six tasks and knows the words of the items."""
    check_training_tasks(recipe, backbone)
    tokenizer = tokenizer_of_six(dataset)
    item_words = [tokenizer.convert_tokens_to_ids(words(text)) for text in dataset.item_texts]
    kind = T5Backbone(recipe, partial(auxiliary_samples, item_words))
    model = kind.build(tokenizer)
    return Reader(kind, model, teach_ids(tokenizer, model, identifiers, dataset.query_texts, past=past))


def tokenizer_of_six(dataset: Dataset) -> Any:
    """Return a tokenizer that knows the words of queries and item texts, and the tokens that ask for them."""
    item_texts = (" ".join(words(text)) for text in dataset.item_texts)
    return make_tokenizer([*dataset.query_texts, *item_texts], markers=[ITEM_TEXT, *MARKERS.values()])


def auxiliary_samples(
    item_words: Sequence[Sequence[int]],
    histories: Sequence[History],
    language: Language,
    rng: np.random.Generator,
    *,
    recipe: Recipe,
    n_samples: int,
) -> list[tuple[Tokens, Tokens]]:
    """Draw an epoch's samples of the four tasks, (prompt, answer) as token ids; at least one of each.

    Parameters
    ----------
    item_words : sequence of sequence of int
        The words of each item's text, as token ids.
    histories : sequence of History
    language : Language
    rng : Generator
    recipe : Recipe
    n_samples : int
        Samples of the two main tasks; `SHARES` counts per one of them.
    """
    tokenizer = language.tokenizer
    src_query, src_item, item_text = tokenizer.convert_tokens_to_ids([SRC_QUERY, SRC_ITEM, ITEM_TEXT])
    markers = {task: tokenizer.convert_tokens_to_ids(marker) for task, marker in MARKERS.items()}
    end = tokenizer.eos_token_id
    searched = [
        (history, event)
        for history in histories
        for event in history.train_events()
        if history.query[event] >= 0 and len(history.before(event))
    ]

    def draw_item() -> tuple[int, Tokens]:
        item = int(rng.integers(len(item_words)))
        return item, list(item_words[item][:MAX_WORDS])

    def next_query() -> tuple[Tokens, Tokens] | None:
        if not searched:
            return None
        history, event = searched[int(rng.integers(len(searched)))]
        head = language.search_heads[history.query[event]]
        # The prompt of a search without its query: it ends with <src_query>, and the query is the answer.
        asked = prompt(
            language, history, event, task="search", forms=draw_forms(history, rng, search_share=recipe.search_share),
            max_tokens=recipe.max_tokens, n_recent=recipe.n_recent,
        )  # fmt: skip
        return asked[: len(asked) - len(head) + 1], [*head[1:-1], end]

    def pseudo_query() -> tuple[Tokens, Tokens]:
        item, own_words = draw_item()
        kept = np.sort(rng.permutation(len(own_words))[:N_QUERY_WORDS])
        return [src_query, *(own_words[at] for at in kept), src_item], language.id_tokens["search"][item].tolist()

    def text_to_id() -> tuple[Tokens, Tokens]:
        item, own_words = draw_item()
        task = list(MARKERS)[int(rng.integers(2))]
        return [item_text, *own_words, markers[task]], language.id_tokens[task][item].tolist()

    def id_to_text() -> tuple[Tokens, Tokens]:
        item, own_words = draw_item()
        task = list(MARKERS)[int(rng.integers(2))]
        return [*language.id_tokens[task][item].tolist(), item_text], [*own_words, end]

    draws: dict[str, Callable[[], tuple[Tokens, Tokens] | None]] = {
        "next query": next_query, "pseudo-query": pseudo_query, "text to ID": text_to_id, "ID to text": id_to_text,
    }  # fmt: skip
    drawn = [draws[name]() for name, share in SHARES.items() for _ in range(max(1, round(share * n_samples)))]
    return [sample for sample in drawn if sample is not None]
