"""Generation: a Hugging Face model that can only answer with items."""

from semid.generation.beam import generate
from semid.generation.constraint import SidLogitsProcessor, prefix_allowed_tokens_fn
from semid.generation.custom import beam_search
from semid.generation.generator import Generator
from semid.generation.scoring import score_items
from semid.generation.search import BeamOutput, read_beams

__all__ = [
    "BeamOutput",
    "Generator",
    "SidLogitsProcessor",
    "beam_search",
    "generate",
    "prefix_allowed_tokens_fn",
    "read_beams",
    "score_items",
]
