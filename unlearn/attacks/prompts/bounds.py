"""What n sampled answers say about all that a model may answer (Scholten et al. 2025, arXiv 2410.03523).

Scores x_1..x_n in [0, 1] of independent samples, empirical distribution F_n; e = sqrt(ln(1/alpha) / (2n)) is the
one-sided Dvoretzky-Kiefer-Wolfowitz margin. Every bound holds with probability 1 - alpha.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def best_of(scores: Array, k: int) -> Array:
    """Return the unbiased estimate of the expected best of k samples: [...] from scores [..., n], 1 <= k <= n.

    The mean of the maximum over all subsets of k: sum_i C(i - 1, k - 1) / C(n, k) x_(i), x sorted upwards. Of scores 0
    and 1 this is leak@k.
    """
    n = scores.shape[-1]
    weights = np.array([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)])
    found: np.ndarray = np.sort(scores, axis=-1) @ weights
    return found


def leak_at(correct: int, n: int, k: int) -> float:
    """Return leak@k = 1 - C(n - c, k) / C(n, k): the chance that k of the n samples hold one of the c correct ones."""
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def binary_bound(hits: int, n: int, alpha: float) -> float:
    """Return the upper Clopper-Pearson bound of P(hit): the 1 - alpha quantile of Beta(S + 1, n - S); 1 if S = n."""
    from scipy.stats import beta

    return 1.0 if hits == n else float(beta.ppf(1 - alpha, hits + 1, n - hits))


def margin(n: int, alpha: float) -> float:
    """Return e = sqrt(ln(1/alpha) / (2n)), for alpha up to 1/2."""
    return math.sqrt(math.log(1 / alpha) / (2 * n))


def general_bound(scores: Array, x: float, alpha: float) -> float:
    """Return the upper bound of P(K > x): min(1, 1 - F_n(x) + e). scores: [n]."""
    return min(1.0, float(np.mean(scores > x)) + margin(len(scores), alpha))


def expectation_bound(scores: Array, alpha: float) -> float:
    """Return the upper bound of E[K]: the integral of min(1, 1 - F_n(x) + e) over [0, 1]. scores: [n]."""
    steps, above = _survival(scores)
    return float(np.diff(steps) @ np.minimum(1, above + margin(len(scores), alpha)))


def deviation_bound(scores: Array, alpha: float) -> float:
    """Return the upper bound of the standard deviation of K: sqrt(E[K^2] from above - (E[K] from below)^2).

    Both are by the same band around F_n; at most 1/2, as for any number in [0, 1]. scores: [n].
    """
    steps, above = _survival(scores)
    e = margin(len(scores), alpha)
    square = float(np.diff(steps**2) @ np.minimum(1, above + e))
    mean = float(np.diff(steps) @ np.maximum(0, above - e))
    return min(0.5, math.sqrt(max(0.0, square - mean**2)))


def _survival(scores: Array) -> tuple[Array, Array]:
    """Return where 1 - F_n steps, from 0 to 1: [n + 2], and its value between: [n + 1]."""
    n = len(scores)
    return np.concatenate([[0.0], np.sort(scores), [1.0]]), 1 - np.arange(n + 1) / n
