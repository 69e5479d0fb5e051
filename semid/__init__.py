"""Semantic IDs: item embeddings to unique codes, and a language model that decodes only real items.

The public names are imported on first use (PEP 562), so that ``import semid`` loads neither torch, transformers,
numba nor scikit-learn.
"""

import importlib
from typing import TYPE_CHECKING, Any

from semid._version import __version__

if TYPE_CHECKING:
    from semid import plots as plots
    from semid.catalog import SemanticIds as SemanticIds
    from semid.collisions import resolve as resolve
    from semid.collisions import suggest_sizes as suggest_sizes
    from semid.generation import Generator as Generator
    from semid.generation import SidLogitsProcessor as SidLogitsProcessor
    from semid.generation import generate as generate
    from semid.generation import prefix_allowed_tokens_fn as prefix_allowed_tokens_fn
    from semid.generation import score_items as score_items
    from semid.kernels import show_backends as show_backends
    from semid.metrics import report as report
    from semid.quantizers import RQVAE as RQVAE
    from semid.quantizers import KMeans as KMeans
    from semid.quantizers import ProductKMeans as ProductKMeans
    from semid.quantizers import ResidualKMeans as ResidualKMeans
    from semid.quantizers import SharedSpecificKMeans as SharedSpecificKMeans
    from semid.quantizers import SharedSpecificRQVAE as SharedSpecificRQVAE
    from semid.trie import Trie as Trie
    from semid.vocabulary import SidVocabulary as SidVocabulary

_MODULE_OF = {
    "Generator": "semid.generation",
    "KMeans": "semid.quantizers",
    "ProductKMeans": "semid.quantizers",
    "RQVAE": "semid.quantizers",
    "ResidualKMeans": "semid.quantizers",
    "SemanticIds": "semid.catalog",
    "SharedSpecificKMeans": "semid.quantizers",
    "SharedSpecificRQVAE": "semid.quantizers",
    "SidLogitsProcessor": "semid.generation",
    "SidVocabulary": "semid.vocabulary",
    "Trie": "semid.trie",
    "generate": "semid.generation",
    "prefix_allowed_tokens_fn": "semid.generation",
    "report": "semid.metrics",
    "resolve": "semid.collisions",
    "score_items": "semid.generation",
    "show_backends": "semid.kernels",
    "suggest_sizes": "semid.collisions",
}

__all__ = [
    "RQVAE",
    "Generator",
    "KMeans",
    "ProductKMeans",
    "ResidualKMeans",
    "SemanticIds",
    "SharedSpecificKMeans",
    "SharedSpecificRQVAE",
    "SidLogitsProcessor",
    "SidVocabulary",
    "Trie",
    "__version__",
    "errors",
    "generate",
    "plots",
    "prefix_allowed_tokens_fn",
    "report",
    "resolve",
    "score_items",
    "show_backends",
    "suggest_sizes",
]


def __getattr__(name: str) -> Any:
    if name in {"errors", "plots"}:
        return importlib.import_module(f"semid.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'semid' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
