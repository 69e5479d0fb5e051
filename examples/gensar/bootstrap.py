"""Confidence intervals of the metrics: the users are drawn anew, with replacement, a thousand times.

Users and not requests, because the requests of one user are alike. What an interval tells is how much the table depends
on which users happened to be tested, not how much it depends on the seed of the training.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from semid.errors import InvalidValueError

from .dataset import IntArray
from .ranking import CUTOFFS, gains

__all__ = ["LEVEL", "N_DRAWS", "intervals"]

LEVEL = 0.95
N_DRAWS = 1000


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
        Whose request it is.
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
