"""Metrics of ranked lists with one relevant item each: HR and NDCG, their confidence intervals, and the table of a run.

An interval comes from drawing the users anew, with replacement, a thousand times. Users are drawn and not requests,
because the requests of one user are alike. It tells how much the table depends on which users happened to be tested,
not how much it depends on the seed of the training.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from semid.errors import InvalidValueError

from .dataset import IntArray, Task

__all__ = [
    "CUTOFFS",
    "LEVEL",
    "N_DRAWS",
    "SHOWN",
    "format_table",
    "gains",
    "interval_rows",
    "intervals",
    "metrics",
    "ranks_of",
    "unbeaten_floors",
]

CUTOFFS = (1, 5, 10, 20)
# The metrics of a printed table; the result file has those of all `CUTOFFS`.
SHOWN = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")
LEVEL = 0.95
N_DRAWS = 1000

FloatArray = npt.NDArray[np.float64]
Metrics = Mapping[str, float]


def metrics(ranks: IntArray, *, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Return the mean HR@k and NDCG@k over the requests, in the order of the cutoffs; see `gains`.

    Raises
    ------
    InvalidValueError
        If there are no requests.
    """
    if not len(ranks):
        raise InvalidValueError("no requests to average over: expected at least one rank, got none. Check the split.")
    return {name: float(values.mean()) for name, values in gains(ranks, cutoffs=cutoffs).items()}


def gains(ranks: IntArray, *, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, FloatArray]:
    """Return HR@k and NDCG@k of each request, shape (n_requests,), dtype float64, in the order of the cutoffs.

    With one relevant item at 0-based rank r: HR@k = [r < k] and NDCG@k = [r < k] / log2(r + 2), since the ideal list
    has it first and a gain of one. A rank of -1 counts 0.
    """
    gain = np.where(ranks >= 0, 1 / np.log2(np.maximum(ranks, 0) + 2), 0)
    result = {}
    for k in cutoffs:
        within = (ranks >= 0) & (ranks < k)
        result[f"HR@{k}"] = within.astype(np.float64)
        result[f"NDCG@{k}"] = np.where(within, gain, 0)
    return result


def ranks_of(ranked: IntArray, relevant: IntArray) -> IntArray:
    """Return the 0-based place of each relevant item in its list, -1 where the list does not hold it.

    Parameters
    ----------
    ranked : ndarray of shape (n_requests, list_length), integer dtype
        Best first; -1 pads a shorter list.
    relevant : ndarray of shape (n_requests,), integer dtype

    Returns
    -------
    ranks : ndarray of shape (n_requests,), dtype int64

    Raises
    ------
    InvalidValueError
        If the two do not have one row per request.
    """
    if ranked.ndim != 2 or relevant.shape != ranked.shape[:1]:
        raise InvalidValueError(
            f"lists and relevant items do not match: expected (n_requests, list_length) and (n_requests,), "
            f"got {ranked.shape} and {relevant.shape}. Give one list and one item per request."
        )
    hits = ranked == relevant[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), -1)


def intervals(
    ranks: IntArray,
    users: IntArray,
    *,
    cutoffs: Sequence[int] = CUTOFFS,
    level: float = LEVEL,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Mapping[str, tuple[float, float]]:
    """Return the percentile bootstrap interval (low, high) of each metric (Efron 1979).

    Parameters
    ----------
    ranks : ndarray of shape (n_requests,), integer dtype
        From `ranks_of`.
    users : ndarray of shape (n_requests,), integer dtype
        The user of each request.
    cutoffs : sequence of int
    level : float
        Between 0 and 1, exclusive.
    n_draws : int
    seed : int
        The users drawn do not depend on the ranks, so two models are compared on the same draws.

    Raises
    ------
    InvalidValueError
        If there are no requests, or ranks and users do not match.
    """
    if not len(ranks) or ranks.shape != users.shape:
        raise InvalidValueError(
            f"no interval from these requests: expected one user for each of at least one rank, got {ranks.shape} "
            f"ranks and {users.shape} users. Pass the users of the ranks."
        )
    _, user = np.unique(users, return_inverse=True)
    n_users = int(user.max()) + 1
    n_requests = np.bincount(user, minlength=n_users)
    found = gains(ranks, cutoffs=cutoffs)
    sums = np.array([np.bincount(user, weights=values, minlength=n_users) for values in found.values()])
    rng = np.random.default_rng(seed)
    means = np.empty((n_draws, len(sums)))
    for draw in range(n_draws):
        times = np.bincount(rng.integers(n_users, size=n_users), minlength=n_users)
        means[draw] = sums @ times / (n_requests @ times)
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(low), float(high)) for name, (low, high) in zip(found, ends.T, strict=True)}


def format_table(
    model: Mapping[Task, Metrics],
    floors: Mapping[Task, Mapping[str, Metrics]],
    *,
    name: str = "ours",
    below: Mapping[Task, Mapping[str, Metrics]] | None = None,
    shown: Sequence[str] | None = None,
) -> str:
    """Return the table as text, without a final newline; tasks without model metrics are left out.

    Parameters
    ----------
    model : mapping
        Task -> metric -> value.
    floors : mapping
        Task -> name of the baseline -> metric -> value, as `baselines.measure_floors` returns it.
    name : str
        The model's name in the table.
    below : mapping, optional
        Task -> label -> metric -> value: rows such as `interval_rows`, which are shown and not compared.
    shown : sequence of str, optional
        The metrics to show and to compare; default: all.
    """
    below = below or {}
    if shown is not None:
        model = {task: {metric: values[metric] for metric in shown} for task, values in model.items()}
    columns = next(iter(model.values())).keys() if model else ()
    labels = [name, *(label for task in model for label in [*below.get(task, {}), *floors.get(task, {})])]
    width = max(len(label) for label in labels) + 2
    rule = "-" * (width + 10 * len(columns))
    lines = [" " * width + "".join(f"{column:>10}" for column in columns)]
    for task, metrics in model.items():
        lines += [rule, task]
        for label, values in {name: metrics, **below.get(task, {}), **floors.get(task, {})}.items():
            lines.append(f"  {label:<{width - 2}}" + "".join(f"{values[column]:10.4f}" for column in columns))
    return "\n".join([*lines, rule, *_verdict(model, floors, name=name)])


def interval_rows(
    intervals: Mapping[Task, Mapping[str, tuple[float, float]]],
) -> dict[Task, dict[str, dict[str, float]]]:
    """Return two rows for the ends of the intervals, as `format_table` takes them below the model."""
    labels = f"  {LEVEL:.0%} from", f"  {LEVEL:.0%} to"
    return {
        task: {label: {metric: ends[side] for metric, ends in found.items()} for side, label in enumerate(labels)}
        for task, found in intervals.items()
    }


def unbeaten_floors(
    model: Mapping[Task, Metrics], floors: Mapping[Task, Mapping[str, Metrics]]
) -> list[tuple[Task, str, list[str]]]:
    """Return (task, baseline, metrics) for each baseline that the model does not beat on at least one metric."""
    found: list[tuple[Task, str, list[str]]] = []
    for task, metrics in model.items():
        for floor, values in floors.get(task, {}).items():
            lost = [metric for metric in metrics if metrics[metric] <= values[metric]]
            if lost:
                found.append((task, floor, lost))
    return found


def _verdict(model: Mapping[Task, Metrics], floors: Mapping[Task, Mapping[str, Metrics]], *, name: str) -> list[str]:
    unbeaten = unbeaten_floors(model, floors)
    if not unbeaten:
        return [f"{name}: better than every baseline on every metric."]
    lines = [f"Baselines that {name} does not beat:"]
    for task, floor, lost in unbeaten:
        shares = ", ".join(f"{metric} {_share(model[task][metric], floors[task][floor][metric])}" for metric in lost)
        lines.append(f"  {task}, {floor}: {shares}")
    return lines


def _share(ours: float, floor: float) -> str:
    return f"{ours / floor:.0%} of it" if floor > 0 else "both 0"
