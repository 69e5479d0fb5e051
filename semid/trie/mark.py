"""Which catalogue a trie is of, as it travels with the trie and its files."""

from collections.abc import Mapping
from typing import NamedTuple, Self

__all__ = ["UNMARKED", "Mark"]


class Mark(NamedTuple):
    """A catalogue's fingerprint and generation; None where a trie was not made by one.

    Examples
    --------
    >>> Mark("ab12", 3).head(), Mark.of_head({"fingerprint": "ab12", "generation": "3"})
    ({'fingerprint': 'ab12', 'generation': '3'}, Mark(fingerprint='ab12', generation=3))
    """

    fingerprint: str | None = None
    generation: int | None = None

    def head(self) -> dict[str, str]:
        """Return what is known as texts, as the header of a file holds it."""
        return {name: str(value) for name, value in self._asdict().items() if value is not None}

    @classmethod
    def of_head(cls, head: Mapping[str, str]) -> Self:
        """Read the mark from a file's header, whose generation is a number."""
        generation = head.get("generation")
        return cls(head.get("fingerprint"), None if generation is None else int(generation))


UNMARKED = Mark()
