"""The cells of the ablation: switches of gensar_end_to_end.py, in groups that change one thing, or two."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import final

from .identifiers import IDENTIFIERS, POLICIES
from .presets import NORMALIZERS, TASKS, recipe_for

__all__ = ["GROUPS", "Cell", "Group"]

BEAMS = (30, 50)
IDENTIFIER = recipe_for("small", "causal").identifier


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of switches; None is the preset's own value, which the switch leaves as it is."""

    backbone: str | None = None
    collaborative: str | None = None
    identifier: str | None = None
    tasks: str | None = None
    training_tasks: str | None = None
    history: str | None = None
    recent: int | None = None
    policy: str | None = None
    beams: int | None = None
    normalize: str | None = None
    inputs: str | None = None
    search_within: str | None = None
    search_by: str | None = None
    label_smoothing: float | None = None

    def switches(self) -> list[str]:
        """Return the arguments for the program."""
        turned = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [w for name, value in turned if value is not None for w in (f"--{name.replace('_', '-')}", str(value))]

    def name(self, seed: int) -> str:
        """Return the name of the result file: the switches that were turned, and the seed."""
        words = self.switches()
        turned = [f"{words[at][2:]}={words[at + 1]}" for at in range(0, len(words), 2)]
        return ",".join([*turned, f"seed={seed}"])


@final
@dataclass(frozen=True)
class Group:
    """A table: its key on the command line, its title, and its rows."""

    key: str
    title: str
    cells: Mapping[str, Cell]


def _or_default(value: str, default: str) -> str | None:
    # Left out where it is the default, so that the run that all groups have in common is one cell.
    return None if value == default else value


GROUPS = (
    Group(
        "identifiers",
        "identifier, tasks",
        {
            f"{identifier}, {tasks}": Cell(
                identifier=_or_default(identifier, IDENTIFIER), tasks=_or_default(tasks, TASKS[0])
            )
            for identifier in IDENTIFIERS
            for tasks in TASKS
        },
    ),
    Group(
        "ours",
        "what is not the paper's",
        {
            "all of it": Cell(),
            "inputs: tokens": Cell(inputs="tokens"),
            "search by search alone": Cell(search_by="search"),
            "search in the whole catalogue": Cell(search_within="catalogue"),
            "label smoothing 0.1": Cell(label_smoothing=0.1),
        },
    ),
    Group(
        "collaborative",
        "collaborative view, identifier",
        {
            "PPMI": Cell(),
            "SASRec": Cell(collaborative="sasrec"),
            "PPMI and SASRec": Cell(collaborative="both"),
            **{
                f"PPMI and SASRec, {identifier}": Cell(collaborative="both", identifier=identifier)
                for identifier in ("rqvae", "shared-specific-kmeans", "semantic-kmeans", "collaborative-kmeans")
            },
        },
    ),
    Group(
        "history",
        "history, T5",
        {
            "strict, all that fits": Cell(backbone="t5"),
            "strict, last 5 + 5": Cell(backbone="t5", recent=5),
            "published, last 5 + 5 (leaks)": Cell(backbone="t5", history="published", recent=5),
        },
    ),
    Group(
        "training-tasks",
        "training tasks, T5",
        {"two": Cell(backbone="t5"), "six": Cell(backbone="t5", training_tasks="six")},
    ),
    Group("policy", "policy", {policy: Cell(policy=_or_default(policy, POLICIES[0])) for policy in POLICIES}),
    Group("beams", "beams", {"the preset's": Cell(), **{str(beams): Cell(beams=beams) for beams in BEAMS}}),
    Group(
        "normalizer",
        "normalizer",
        {name: Cell(normalize=_or_default(name, NORMALIZERS[0])) for name in NORMALIZERS},
    ),
)
