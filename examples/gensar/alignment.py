"""The paper's four training tasks beside the two that are evaluated, for the T5 backbone; --training-tasks six.

    task                  reads                                     writes
    next query            history, <src_query>                      words, </s>
    pseudo-query to item  <src_query> words <src_item>              the item's semantic ID
    text to ID            <item_text> words <semantic_id>           the item's semantic ID (or the collaborative one)
    ID to text            ID, <item_text>                           words, </s>

They tie codes and words to each other. What an ID means is else learnt from the histories alone. The paper asks in
sentences, here tokens tell the task; its pseudo-queries come from a Doc2Query model, here they are a few words of the
item's text, in their order.
"""

from collections.abc import Callable, Sequence

import numpy as np

from semid.errors import InvalidValueError

from .dataset import History
from .events import draw_forms, prompt
from .language import ITEM_TEXT, MARKERS, SRC_ITEM, SRC_QUERY, Language
from .presets import BackboneName, Recipe
from .recent import past_events

__all__ = ["SHARES", "TRAINING_TASKS", "auxiliary_samples", "check_training_tasks"]

TRAINING_TASKS = ("two", "six")
# Per sample of the first two tasks: 1,000, 1,000, 2,000 and 2,000 beside 930,387 + 100,000 in the released code.
SHARES = {"next query": 0.00097, "pseudo-query": 0.00097, "text to ID": 0.00194, "ID to text": 0.00194}
MAX_WORDS = 32
N_QUERY_WORDS = 3

Tokens = list[int]


def check_training_tasks(recipe: Recipe, backbone: BackboneName) -> None:
    """Raise InvalidValueError if the tasks are unknown, or six for a backbone that has whole histories only."""
    if recipe.training_tasks not in TRAINING_TASKS:
        raise InvalidValueError(
            f"--training-tasks is unknown: expected one of {TRAINING_TASKS}, got {recipe.training_tasks!r}."
        )
    if recipe.training_tasks == "six" and backbone == "causal":
        raise InvalidValueError(
            "the causal backbone learns from histories alone: expected --training-tasks two, got six. "
            "Pass --backbone t5."
        )


def auxiliary_samples(
    histories: Sequence[History], language: Language, rng: np.random.Generator, *, recipe: Recipe, n_samples: int
) -> list[tuple[Tokens, Tokens]]:
    """Draw an epoch's samples of the four tasks, (prompt, answer) as token ids; one of each at least.

    Parameters
    ----------
    histories : sequence of History
    language : Language
        With the words of the items.
    rng : Generator
    recipe : Recipe
    n_samples : int
        Samples of the two main tasks, of which `SHARES` are taken.
    """
    tokenizer = language.tokenizer
    src_query, src_item, item_text = tokenizer.convert_tokens_to_ids([SRC_QUERY, SRC_ITEM, ITEM_TEXT])
    markers = {task: tokenizer.convert_tokens_to_ids(marker) for task, marker in MARKERS.items()}
    end = tokenizer.eos_token_id
    n_items = len(language.item_words)
    searched = [
        (history, event)
        for history in histories
        for event in history.train_events()
        if history.query[event] >= 0 and len(history.before(event))
    ]

    def draw_item() -> tuple[int, Tokens]:
        item = int(rng.integers(n_items))
        return item, list(language.item_words[item][:MAX_WORDS])

    def next_query() -> tuple[Tokens, Tokens] | None:
        if not searched:
            return None
        history, event = searched[int(rng.integers(len(searched)))]
        head = language.search_heads[history.query[event]]
        # The prompt of a search without its query: it ends with <src_query>, and the query is the answer.
        asked = prompt(
            language, history, event, task="search", forms=draw_forms(history, rng, search_share=recipe.search_share),
            max_tokens=recipe.max_tokens, past=past_events(history, event, task="search", recipe=recipe),
        )  # fmt: skip
        return asked[: len(asked) - len(head) + 1], [*head[1:-1], end]

    def pseudo_query() -> tuple[Tokens, Tokens]:
        item, words = draw_item()
        kept = np.sort(rng.permutation(len(words))[:N_QUERY_WORDS])
        return [src_query, *(words[at] for at in kept), src_item], language.id_tokens["search"][item].tolist()

    def text_to_id() -> tuple[Tokens, Tokens]:
        item, words = draw_item()
        task = list(MARKERS)[int(rng.integers(2))]
        return [item_text, *words, markers[task]], language.id_tokens[task][item].tolist()

    def id_to_text() -> tuple[Tokens, Tokens]:
        item, words = draw_item()
        task = list(MARKERS)[int(rng.integers(2))]
        return [*language.id_tokens[task][item].tolist(), item_text], [*words, end]

    draws: dict[str, Callable[[], tuple[Tokens, Tokens] | None]] = {
        "next query": next_query, "pseudo-query": pseudo_query, "text to ID": text_to_id, "ID to text": id_to_text,
    }  # fmt: skip
    drawn = [draws[name]() for name, share in SHARES.items() for _ in range(max(1, round(share * n_samples)))]
    return [sample for sample in drawn if sample is not None]
