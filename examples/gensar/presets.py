"""All sizes and schedules of a run: one recipe per preset (tiny, small, medium, paper) and backbone (causal, t5)."""

from dataclasses import dataclass, replace
from typing import Any, Literal, final

from semid.errors import InvalidValueError

__all__ = [
    "BACKBONES",
    "COLLABORATIVE",
    "INPUTS",
    "NORMALIZERS",
    "PRESETS",
    "SCHEDULES",
    "SCOPES",
    "SEARCH_BY",
    "TASKS",
    "BackboneName",
    "Recipe",
    "check_recipe",
    "only_tasks",
    "recipe_for",
]

BackboneName = Literal["causal", "t5"]
TASKS = ("both", "recommendation", "search")
NORMALIZERS = ("full", "window", "allowed")
COLLABORATIVE = ("ppmi", "sasrec", "both")
INPUTS = ("soft", "tokens")
SCOPES = ("query", "catalogue")
SEARCH_BY = ("both", "search")
SCHEDULES = ("cosine", "constant")


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Sizes and schedule of one run; its length is in steps and not in minutes, so that a seed repeats a table.

    Attributes
    ----------
    n_users : int or None
        Number of users to keep, the first ones; None: all.
    n_shared, n_specific : int
        Levels of an ID that both views share, and levels of each view's own.
    collaborative : {"ppmi", "sasrec", "both"}
        What the collaborative view is, see `gensar.views`.
    identifier : str
        One of `gensar.identifiers.IDENTIFIERS`, or of `gensar.lab.run`.
    codebook_size : int
        Codes per level; doubled until the items fill at most half of the possible IDs.
    network_epochs : int or None
        Epochs of the two identifiers that are made by networks; None: the published 500 for "gensar-rqvae", and the
        default of `semid.RQVAE`.
    hidden_size, n_layers, n_heads, mlp_size : int
        Of the language model; encoder and decoder have `n_layers` each.
    dropout : float
        Of the residual branches.
    inputs : {"soft", "tokens"}
        Whether the embeddings of query texts and items are added to the inputs; see `gensar.soft`.
    input_dropout, row_dropout : float
        Of soft inputs; see `gensar.soft.SoftEmbedding`.
    label_smoothing : float
        Share of each target that is spread over the vocabulary.
    max_tokens : int
        Longest history in training and prompts.
    n_steps, tokens_per_step : int
        Optimizer steps, and input tokens (padding included) of one of them.
    learning_rate : float
        The peak, which a linear warm-up reaches in `n_warmup` steps.
    schedule : {"cosine", "constant"}
        The rate after the warm-up: a cosine to 3 % of the peak, or the peak.
    n_warmup : int
    average : float
        Decay of the moving average of the weights, which is validated and kept; 0: the weights themselves.
    weight_decay : float
    search_share : float
        Share of the events with a query that are written as searches, drawn anew in every epoch.
    n_validations, n_valid_users : int
        How often the model is validated to keep the best one, and on how many users.
    patience : int or None
        Stop after so many validations in a row that did not raise the best mean of the tasks' NDCG@10; None: take all
        steps.
    tasks : {"both", "recommendation", "search"}
        What is trained and evaluated; see `only_tasks`.
    training_tasks : str
        "two": those that are evaluated; "six", the paper's, is in `gensar.lab.alignment`.
    history : str
        "strict": a prompt holds earlier events only; "published" is in `gensar.lab.published`.
    n_recent : int or None
        A prompt holds so many of the last interactions and of the last searches; None: as many as fit `max_tokens`.
    policy : str
        One of `gensar.identifiers.POLICIES`: how IDs are made unique.
    normalize : {"full", "window", "allowed"}
        Over which tokens the probabilities of a step sum to one; see `semid.generate`.
    search_within : {"query", "catalogue"}
        Rank the items that belong to the query, or all of them; see `gensar.evaluation`.
    search_by : {"both", "search"}
        Rank the items of a query by both tasks' probabilities, or by that of search alone.
    num_beams : int
        On ML-100K, 20 beams find what 50 find (NDCG@10 within 0.0003) in less than half the time.
    eval_batch : int
        Requests decoded at a time.
    """

    n_users: int | None = None
    n_shared: int = 1
    n_specific: int = 1
    collaborative: str = "ppmi"
    identifier: str = "residual-kmeans"
    codebook_size: int = 64
    network_epochs: int | None = None
    hidden_size: int = 128
    n_layers: int = 3
    n_heads: int = 4
    mlp_size: int = 384
    dropout: float = 0.1
    inputs: str = "soft"
    input_dropout: float = 0.1
    row_dropout: float = 0.1
    label_smoothing: float = 0.0
    max_tokens: int = 384
    n_steps: int = 2000
    tokens_per_step: int = 3072
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    n_warmup: int = 100
    average: float = 0.99
    weight_decay: float = 0.05
    search_share: float = 0.35
    n_validations: int = 5
    n_valid_users: int = 250
    patience: int | None = None
    tasks: str = "both"
    training_tasks: str = "two"
    history: str = "strict"
    n_recent: int | None = None
    policy: str = "nearest"
    normalize: str = "full"
    search_within: str = "query"
    search_by: str = "both"
    num_beams: int = 20
    eval_batch: int = 16


_TINY: dict[str, Any] = {
    "n_users": 80, "codebook_size": 48, "network_epochs": 10, "hidden_size": 48, "n_layers": 2, "n_heads": 2,
    "mlp_size": 96, "max_tokens": 128, "n_steps": 60, "tokens_per_step": 1024, "n_warmup": 10, "n_validations": 2,
    "n_valid_users": 20,
}  # fmt: skip

# arXiv 2504.05730, released code and appendix: two shared and two specific levels of 256 codes, T5-small (d_model 512,
# 6 + 6 layers, 8 heads, feed-forward 2,048), AdamW at 1e-3 with 1 % warm-up and weight decay 1e-7, 25,200 steps, 30
# beams. The paper's step is 8,192 sequences on eight GPUs; here it is about 800, what one GPU holds.
_PAPER: dict[str, Any] = {
    "n_shared": 2, "n_specific": 2, "codebook_size": 256, "hidden_size": 512, "n_layers": 6, "n_heads": 8,
    "mlp_size": 2048, "max_tokens": 512, "n_steps": 25_200, "tokens_per_step": 65_536, "learning_rate": 1e-3,
    "n_warmup": 252, "weight_decay": 1e-7, "search_share": 0.0965, "n_validations": 50, "n_valid_users": 2_000,
    "patience": 10, "num_beams": 30, "eval_batch": 32,
}  # fmt: skip

# Minutes on two cores, for small data: without strong dropout, 60,000 events are memorised in ten epochs.
_SMALL: dict[str, Any] = {
    "collaborative": "both", "n_layers": 2, "dropout": 0.3, "row_dropout": 0.2, "n_steps": 1400, "search_share": 0.45,
    "n_validations": 4, "n_valid_users": 500,
}  # fmt: skip

# Half an hour on two cores, for some hundred thousand events. On the validation targets of amazon_beauty, search was
# best after six epochs and recommendation after twelve; these are fourteen.
_MEDIUM: dict[str, Any] = {
    **_SMALL, "hidden_size": 160, "mlp_size": 480, "dropout": 0.4, "label_smoothing": 0.1, "n_steps": 2000,
    "tokens_per_step": 4096, "n_valid_users": 1000, "eval_batch": 32,
}  # fmt: skip

# The paper's model has two IDs per item, reads words and codes, searches the whole catalogue, and averages no weights.
_AS_PUBLISHED: dict[str, Any] = {
    "identifier": "shared-specific-kmeans", "inputs": "tokens", "search_within": "catalogue", "search_by": "search",
    "average": 0.0,
}  # fmt: skip

PRESETS: dict[str, dict[BackboneName, Recipe]] = {
    "tiny": {"causal": Recipe(**_TINY), "t5": Recipe(**_TINY, **_AS_PUBLISHED)},
    "small": {
        "causal": Recipe(**_SMALL),
        # One target per prompt: with long histories a step would hold too few targets.
        "t5": Recipe(hidden_size=96, mlp_size=256, n_layers=2, max_tokens=64, tokens_per_step=4096, **_AS_PUBLISHED),
    },
    "medium": {
        "causal": Recipe(**_MEDIUM),
        "t5": Recipe(max_tokens=64, n_steps=5000, tokens_per_step=8192, n_valid_users=1000, **_AS_PUBLISHED),
    },
    "paper": {"causal": Recipe(**_PAPER), "t5": Recipe(**_PAPER, **_AS_PUBLISHED)},
}
BACKBONES: tuple[BackboneName, ...] = ("causal", "t5")


def recipe_for(preset: str, backbone: BackboneName) -> Recipe:
    """Return the recipe of a preset and a backbone."""
    return PRESETS[preset][backbone]


def only_tasks(recipe: Recipe, tasks: str) -> Recipe:
    """Return the recipe for one task alone ("both": unchanged): every event is written in the form of that task.

    An event without a query stays a recommendation, also where only search is evaluated. A model that has learnt only
    search is not asked for the probabilities of recommendation.
    """
    share = {"both": recipe.search_share, "recommendation": 0.0, "search": 1.0}[tasks]
    search_by = recipe.search_by if tasks == "both" else "search"
    return replace(recipe, tasks=tasks, search_share=share, search_by=search_by)


def check_recipe(recipe: Recipe, backbone: BackboneName) -> None:
    """Refuse what the backbone cannot do.

    Raises
    ------
    InvalidValueError
        If the inputs are unknown, or soft for the T5, or `n_recent` is below 1, or given for the causal backbone.
    """
    if recipe.inputs not in INPUTS:
        raise InvalidValueError(f"--inputs is unknown: expected one of {INPUTS}, got {recipe.inputs!r}.")
    if backbone == "t5" and recipe.inputs != "tokens":
        raise InvalidValueError(
            f"the T5 backbone reads words and codes, as the paper's does: expected --inputs tokens, got "
            f"{recipe.inputs}. Pass --backbone causal."
        )
    if recipe.n_recent is not None and recipe.n_recent < 1:
        raise InvalidValueError(f"--recent is too small: expected at least 1, got {recipe.n_recent}.")
    if backbone == "causal" and recipe.n_recent is not None:
        raise InvalidValueError(
            f"the causal backbone learns from whole histories: expected no --recent, got {recipe.n_recent}. "
            "Pass --backbone t5."
        )
