"""One line of an attack's result."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Row:
    """What was tried, how many times, and how many times each kind of fault was seen.

    Parameters
    ----------
    what : str
        The situation, in words that a reader of the page understands.
    tried : int
        Number of tries.
    faults : dict of str to int
        How often each kind of fault was seen. All must be 0.
    figures : dict of str to Any
        Measurements, such as the largest memory.
    examples : list of str
        How to repeat the first few faults: a seed, a position, an exception.
    """

    what: str
    tried: int
    faults: dict[str, int]
    figures: dict[str, Any] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def fault(self, kind: str, example: str = "", *, kept: int = 5) -> None:
        """Count one fault and keep the example of the first few."""
        self.faults[kind] = self.faults.get(kind, 0) + 1
        if example and len(self.examples) < kept:
            self.examples.append(f"{kind}: {example}")
