"""Where a measure of ideal noise lies: two-sided acceptance bands (docs/analysis.md).

Ideal noise: N independent samples, each of L levels equally likely. A band at the significance
level alpha holds its measure with probability 1 - alpha, alpha/2 outside at each end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

_LN2 = math.log(2)
#: Below so many expected pairs of equal samples, counts say too little to be judged.
FEWEST_PAIRS = 50
#: Below so many expected equal samples, the normal law of NPCR gives way to Poisson's.
NORMAL_FROM = 100


class Band(NamedTuple):
    """What is expected of ideal noise, and the band's ends."""

    expected: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def _deviation(alpha: float) -> float:
    return NormalDist().inv_cdf(1 - alpha / 2)


def _normal(mean: float, variance: float, alpha: float) -> Band:
    reach = _deviation(alpha) * math.sqrt(variance)
    return Band(mean, mean - reach, mean + reach)


def _gamma(mean: float, variance: float, alpha: float) -> Band:
    """The gamma law of these two moments, by the cubes of Wilson and Hilferty (1931)."""
    freedom = 2 * mean * mean / variance
    spread = 2 / (9 * freedom)
    reach = _deviation(alpha) * math.sqrt(spread)
    return Band(mean, *(mean * (1 - spread + sign * reach) ** 3 for sign in (-1, 1)))


def enough(samples: int, levels: int) -> bool:
    """Whether so many samples are enough for chi-square and entropy over so many levels."""
    return samples * samples >= 2 * levels * FEWEST_PAIRS


def chi_square(samples: int, levels: int, alpha: float) -> Band:
    """Pearson's statistic against the uniform law: L-1 degrees of freedom (Pearson 1900).

    Its first two moments are exact for few samples as well, and where a level expects fewer
    than five, its law tends to the normal one (Holst 1972), as the gamma law does."""
    freedom = levels - 1
    return _gamma(freedom, 2 * freedom * (1 - 1 / samples), alpha)


def _moments(
    pmf: Callable[[int], float], mean: float, variance: float, what: list[Callable[[int], float]]
) -> list[float]:
    """Return the means of the functions in `what` under a discrete law given by logarithms."""
    reach = 12 * math.sqrt(variance) + 30
    numbers = range(max(0, int(mean - reach)), int(mean + reach) + 1)
    weights = [math.exp(pmf(k)) for k in numbers]
    total = math.fsum(weights)
    return [math.fsum(w * f(k) for w, k in zip(weights, numbers, strict=True)) / total
            for f in what]


def entropy(samples: int, levels: int, alpha: float) -> Band:
    """Shannon's entropy of the observed shares, bits a sample.

    The estimate falls short of log2 L by a mean that is computed from the binomial law of a
    level's count and a variance of independent Poisson counts less what their fixed sum explains
    (Holst 1972); for many samples this is the chi-square law of the G-test."""
    rate = samples / levels

    def lack(k: int) -> float:  # its sum over the levels, divided by N, is log2 L - H
        return (k * math.log(k / rate) - (k - rate) if k else rate) / _LN2

    def binomial(k: int) -> float:
        if k > samples:
            return -math.inf
        share = 1 / levels
        return (math.lgamma(samples + 1) - math.lgamma(k + 1) - math.lgamma(samples - k + 1)
                + k * math.log(share) + (samples - k) * math.log1p(-share))

    def poisson(k: int) -> float:
        return k * math.log(rate) - rate - math.lgamma(k + 1)

    (shortfall,) = _moments(binomial, rate, rate, [lack])
    centre, slope = _moments(poisson, rate, rate, [lack, lambda k: lack(k) * (k - rate) / rate])
    (left,) = _moments(poisson, rate, rate,
                       [lambda k: (lack(k) - centre - slope * (k - rate)) ** 2])
    mean, low, high = _gamma(shortfall / rate, left * levels / samples**2, alpha)
    top = math.log2(levels)
    return Band(top - mean, top - high, min(top - low, math.log2(samples)))


def correlation(pairs: int, alpha: float) -> Band:
    """Pearson's coefficient of independent pairs: mean 0, variance 1/n for many pairs; for pairs
    of neighbours in one series too (Wald, Wolfowitz 1943)."""
    return _normal(0.0, 1 / pairs, alpha)


def npcr(samples: int, levels: int, alpha: float) -> Band:
    """The share of samples that differ between two images (Wu, Noonan, Agaian 2011: mean
    F/(F+1), variance F/((F+1)^2 N), F = L-1 the largest level).

    Fewer than 100 equal samples expected: from the Poisson law of their number."""
    top = levels - 1
    mean = top / levels
    if samples / levels >= NORMAL_FROM:
        return _normal(mean, top / levels**2 / samples, alpha)
    rate = samples / levels
    term = total = math.exp(-rate)
    low = high = 0
    while total < 1 - alpha / 2:
        high += 1
        term *= rate / high
        if total <= alpha / 2:
            low = high
        total += term
    return Band(mean, 1 - high / samples, 1 - low / samples)


def uaci(samples: int, levels: int, alpha: float) -> Band:
    """The mean difference of two images as a share of the largest level (Wu, Noonan, Agaian 2011:
    mean (F+2)/(3F+3), variance (F+2)(F^2+2F+3)/(18(F+1)^2 F N))."""
    top = levels - 1
    variance = (top + 2) * (top * top + 2 * top + 3) / (18 * levels**2 * top * samples)
    return _normal((top + 2) / (3 * top + 3), variance, alpha)
