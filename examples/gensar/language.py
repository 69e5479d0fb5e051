"""What the model reads and writes: query words, behaviour tokens, and one token per code of the semantic IDs.

The tokenizer is a real Hugging Face one, made of the words of the queries; no text model is needed, and every word and
every behaviour is one token. The vocabulary of semantic IDs is added to it, with the same tokens for the shared levels
of both views.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import semid

from .dataset import Task, words
from .identifiers import VIEW_OF, Identifiers

__all__ = [
    "ITEM_TEXT",
    "MARKERS",
    "REC_ITEM",
    "SRC_ITEM",
    "SRC_QUERY",
    "Language",
    "make_tokenizer",
    "query_token",
    "teach_ids",
]

# The paper's behaviour tokens: what the next tokens are, an item that was recommended, a query, an item that was found.
REC_ITEM, SRC_QUERY, SRC_ITEM = "<rec_item>", "<src_query>", "<src_item>"
# For `alignment`: that the text of an item follows, and which of its IDs is asked for.
ITEM_TEXT = "<item_text>"
MARKERS: dict[Task, str] = {"search": "<semantic_id>", "recommendation": "<collaborative_id>"}


@final
@dataclass(frozen=True)
class Language:
    """Tokens of everything that stands in a history.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerFast
    vocabs : mapping of view to semid.SidVocabulary
    id_tokens : mapping of task to ndarray of shape (n_items, n_levels), dtype int64
        The ID that the task generates, as token ids.
    rec_head : tuple of int
        What stands in front of an item's ID in a recommendation event.
    search_heads : tuple of tuples of int
        The same for a search event, per query: the query's words between two behaviour tokens, or its one token.
    item_words : tuple of tuples of int
        The words of each item's text; empty where only histories are learnt from.
    """

    tokenizer: Any
    vocabs: Mapping[str, Any]
    id_tokens: Mapping[Task, npt.NDArray[np.int64]]
    rec_head: tuple[int, ...]
    search_heads: tuple[tuple[int, ...], ...]
    item_words: tuple[tuple[int, ...], ...] = ()

    @property
    def n_levels(self) -> int:
        """Tokens per ID."""
        return int(self.id_tokens["search"].shape[1])


def query_token(query: int) -> str:
    """Return the token of a whole query; its row is soft, see `soft`."""
    return f"<query_{query}>"


def make_tokenizer(texts: Iterable[str], *, item_texts: Sequence[str] = (), n_soft_queries: int = 0) -> Any:
    """Return a Hugging Face tokenizer whose vocabulary is the words of the texts and the behaviour tokens.

    With `item_texts`, it knows their words as well (see `words`), and the tokens that ask for them; with
    `n_soft_queries`, a token per query, one after the other at the end of the vocabulary.
    """
    known = {word for text in texts for word in text.lower().split()}
    asking = [ITEM_TEXT, *MARKERS.values()] if item_texts else []
    vocabulary = sorted(known.union(*map(words, item_texts)))
    vocabulary += map(query_token, range(n_soft_queries))
    behaviours = [REC_ITEM, SRC_QUERY, SRC_ITEM, *asking]
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


def teach_ids(
    tokenizer: Any,
    model: Any,
    identifiers: Identifiers,
    query_texts: tuple[str, ...],
    *,
    item_texts: Sequence[str] = (),
    soft_queries: bool = False,
) -> Language:
    """Add the IDs' tokens to tokenizer and model, their rows initialised from the codebooks, and write out all parts.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        From `make_tokenizer`; changed in place.
    model : PreTrainedModel
        Built for the tokenizer's present size; changed in place.
    soft_queries : bool
        A search is told by the token of its query alone, instead of by words between two behaviour tokens.
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
        item_words=tuple(tuple(tokenizer.convert_tokens_to_ids(words(text))) for text in item_texts),
    )
