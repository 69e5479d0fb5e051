"""What the model reads and writes: query words, behaviour tokens, codes of semantic IDs, and prompts made of them.

The tokenizer is a Hugging Face one whose words are those of the queries; no text model is needed, and every word and
every behaviour is one token. The tokens of the semantic IDs are added to it; both views share those of the shared
levels.

An event is written in one of two forms:

    recommendation   <rec_item> ID                            with the item's collaborative ID
    search           <src_query> words <src_item> ID          with the item's semantic ID

A history mixes both. A prompt holds the events of earlier seconds and, of the target itself, the part before the ID.

The paper's prompt is shorter: the last five interactions and the last five searches, merged by time (`strict_past`).
The authors' code keeps both lists, so an interaction that a search led to is in both of them, and is written twice.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import semid

from .dataset import History, IntArray, Task
from .identifiers import VIEW_OF, Identifiers

__all__ = [
    "REC_ITEM",
    "SRC_ITEM",
    "SRC_QUERY",
    "Language",
    "Past",
    "PastRule",
    "draw_forms",
    "event_parts",
    "last_of_both",
    "make_tokenizer",
    "prompt",
    "query_token",
    "strict_past",
    "teach_ids",
]

# The paper's behaviour tokens: a recommended item follows, a query follows, an item that was found follows.
REC_ITEM, SRC_QUERY, SRC_ITEM = "<rec_item>", "<src_query>", "<src_item>"

BoolArray = npt.NDArray[np.bool_]
# Events of a prompt, oldest first, and whether each is written as a search.
Past = list[tuple[int, bool]]
# (history, event, task=, n_recent=) -> the events that the prompt of a target holds; None: all that are earlier.
PastRule = Callable[..., Past | None]


@final
@dataclass(frozen=True)
class Language:
    """Tokens of everything that a history consists of.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerFast
    vocabs : mapping of view to semid.SidVocabulary
    id_tokens : mapping of task to ndarray of shape (n_items, n_levels), dtype int64
        The ID that the task generates, as token ids.
    rec_head : tuple of int
        What is written before an item's ID in a recommendation event.
    search_heads : tuple of tuples of int
        The same for a search event, per query: the query's words between two behaviour tokens, or its one token.
    past : PastRule
        Which earlier events a prompt holds.
    """

    tokenizer: Any
    vocabs: Mapping[str, Any]
    id_tokens: Mapping[Task, npt.NDArray[np.int64]]
    rec_head: tuple[int, ...]
    search_heads: tuple[tuple[int, ...], ...]
    past: PastRule

    @property
    def n_levels(self) -> int:
        """Tokens per ID."""
        return int(self.id_tokens["search"].shape[1])


def prompt(
    language: Language,
    history: History,
    event: int,
    *,
    task: Task,
    forms: BoolArray,
    max_tokens: int,
    n_recent: int | None = None,
) -> list[int]:
    """Write the history of an event and its head: everything that the model may know of the target.

    Parameters
    ----------
    language : Language
    history : History
    event : int
        The target.
    task : {"recommendation", "search"}
    forms : ndarray of shape (n_events,), dtype bool
        Which events of the history are written as searches, where the whole history is.
    max_tokens : int
        The oldest events are dropped until the prompt has at most so many tokens.
    n_recent : int, optional
        Write the last events of each form only, by the rule of `language`; default: all earlier events.

    Returns
    -------
    tokens : list of int
    """
    past = language.past(history, event, task=task, n_recent=n_recent)
    if past is None:
        past = [(int(earlier), bool(forms[earlier])) for earlier in history.before(event)]
    head, _ = event_parts(language, history, event, as_search=task == "search")
    parts: list[list[int]] = []
    room = max_tokens - len(head)
    for earlier, as_search in reversed(past):
        past_head, sid = event_parts(language, history, earlier, as_search=as_search)
        room -= len(past_head) + len(sid)
        if room < 0:
            break
        parts.append([*past_head, *sid])
    return [token for part in reversed(parts) for token in part] + list(head)


def event_parts(
    language: Language, history: History, event: int, *, as_search: bool
) -> tuple[tuple[int, ...], list[int]]:
    """Return head and ID of an event, as token ids; the model reads the head and has to write the ID."""
    task: Task = "search" if as_search else "recommendation"
    head = language.search_heads[history.query[event]] if as_search else language.rec_head
    return head, language.id_tokens[task][history.item[event]].tolist()


def draw_forms(history: History, rng: np.random.Generator, *, search_share: float) -> BoolArray:
    """Draw which events are written as searches, shape (n_events,), dtype bool; only events with a query can be."""
    forms: BoolArray = (rng.random(len(history.item)) < search_share) & (history.query >= 0)
    return forms


def strict_past(history: History, event: int, *, task: Task, n_recent: int | None) -> Past | None:
    """Return the last events of each form that are strictly earlier than the target; None if `n_recent` is None."""
    if n_recent is None:
        return None
    items = history.before(event)
    return last_of_both(history, items, items[history.query[items] >= 0], n_recent=n_recent)


def last_of_both(history: History, items: IntArray, searches: IntArray, *, n_recent: int) -> Past:
    """Merge the last `n_recent` interactions and as many searches by time; at equal times, interactions come first."""
    items, searches = items[-n_recent:], searches[-n_recent:]
    both = np.concatenate([items, searches])
    order = np.argsort(history.time[both], kind="stable")
    return [(int(both[at]), bool(at >= len(items))) for at in order]


def make_tokenizer(texts: Iterable[str], *, markers: Sequence[str] = (), n_soft_queries: int = 0) -> Any:
    """Return a Hugging Face tokenizer whose vocabulary is the words of the texts and the behaviour tokens.

    Parameters
    ----------
    texts : iterable of str
    markers : sequence of str
        Further tokens beside the behaviours.
    n_soft_queries : int
        Number of queries that have a token each, in order at the end of the vocabulary.
    """
    vocabulary = sorted({word for text in texts for word in text.lower().split()})
    vocabulary += map(query_token, range(n_soft_queries))
    behaviours = [REC_ITEM, SRC_QUERY, SRC_ITEM, *markers]
    special = ["<pad>", "</s>", "<unk>", *behaviours]
    tokenizer = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate([*special, *vocabulary])}, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=behaviours,
    )


def query_token(query: int) -> str:
    """Return the token of a whole query; its row is soft, see `soft`."""
    return f"<query_{query}>"


def teach_ids(
    tokenizer: Any,
    model: Any,
    identifiers: Identifiers,
    query_texts: tuple[str, ...],
    *,
    soft_queries: bool = False,
    past: PastRule = strict_past,
) -> Language:
    """Add the IDs' tokens to tokenizer and model, their rows initialised from the codebooks; return all tokens.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        From `make_tokenizer`; changed in place.
    model : PreTrainedModel
        Built for the tokenizer's present size; changed in place.
    identifiers : Identifiers
    query_texts : tuple of str
    soft_queries : bool
        A search is written as the token of its query alone, instead of words between two behaviour tokens.
    past : PastRule
        See `Language`.
    """
    vocabs = semid.SidVocabulary.for_views(
        identifiers.resolution.codebook_sizes, n_shared=identifiers.n_shared, views=tuple(identifiers.codes)
    )
    for view, vocab in vocabs.items():
        vocab.extend(tokenizer, model, codebooks=identifiers.codebooks[view])
    rec_item, src_query, src_item = tokenizer.convert_tokens_to_ids([REC_ITEM, SRC_QUERY, SRC_ITEM])
    heads: list[tuple[int, ...]] = []
    if soft_queries:
        heads = [(tokenizer.convert_tokens_to_ids(query_token(query)),) for query in range(len(query_texts))]
    elif query_texts:
        queries = tokenizer(list(query_texts), add_special_tokens=False)["input_ids"]
        heads = [(src_query, *query, src_item) for query in queries]
    return Language(
        tokenizer=tokenizer,
        vocabs=vocabs,
        id_tokens={task: vocabs[view].to_tokens(identifiers.codes[view]) for task, view in VIEW_OF.items()},
        rec_head=(rec_item,),
        search_heads=tuple(heads),
        past=past,
    )
