"""How well answers agree with the truth: overlap, rank-biased overlap, and an interval for their means.

Both measures are made of the hits at every depth d: how many of the first d answers are, by their true scores, at least
as near as the d-th nearest record. Without ties these are the members that both lists have in common at depth d; with
ties any order among equals is right.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

P = 0.9
"""Persistence of the rank-biased overlap: the first 10 ranks carry 86 % of the weight."""

RESAMPLES = 2000
_AT_ONCE = 4 * 2**20

Floats = npt.NDArray[np.float64]


def agreement(scores: Floats, best: Floats, slack: Floats) -> Floats:
    """Share of right answers at every depth, float64 (q, k).

    Args:
        scores: true scores of the answers in their order, float64 (q, k), higher is nearer; -inf where there is no
            answer, or a wrong or repeated one.
        best: the best true scores in falling order, float64 (q, k).
        slack: by how much a score may be smaller and still count as equal, float64 (q, k).
    """
    shares = np.empty(best.shape)
    for depth in range(1, best.shape[1] + 1):
        least = best[:, depth - 1 : depth] - slack[:, depth - 1 : depth]
        shares[:, depth - 1] = (scores[:, :depth] >= least).sum(axis=1) / depth
    return shares


def rank_biased_overlap(agreements: Floats, p: float = P) -> Floats:
    """Rank-biased overlap of each query, extrapolated: float64 (q,).

    RBO_ext of two lists of the same length k, equation 32 of Webber, Moffat and Zobel, "A similarity measure for
    indefinite rankings", 2010 (https://doi.org/10.1145/1852102.1852106), with A_d the share of `agreement` at depth d:
    A_k p^k + (1 - p) / p * sum over d of A_d p^d. What comes after rank k is taken to agree as the first k do.
    """
    depth = agreements.shape[1]
    weights = p ** np.arange(1, depth + 1)
    return np.asarray(agreements[:, -1] * weights[-1] + (1 - p) / p * (agreements * weights).sum(axis=1))


def interval(values: Floats, *, seed: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean, by percentiles of 2,000 resamples (Efron 1979).

    The same seed gives the same interval.
    """
    chance = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // len(values))
    means = [
        values[chance.integers(0, len(values), (min(rows, RESAMPLES - start), len(values)))].mean(axis=1)
        for start in range(0, RESAMPLES, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
