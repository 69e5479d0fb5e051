"""The vocabulary: semantic IDs as tokens of a language model."""

from semid.vocabulary.vocabulary import SidVocabulary

__all__ = ["SidVocabulary"]
