"""The bands hold what they say: against published values, other computations, and simulation."""

import math

import numpy as np
import pytest

from dicomcrypt.analysis import bands, measures


def chi_square_density(x, freedom):
    half = freedom / 2
    return math.exp((half - 1) * math.log(x) - x / 2 - half * math.log(2) - math.lgamma(half))


def between(density, low, high, steps=4000):
    """Simpson's rule."""
    width = (high - low) / steps
    inner = sum((4 if n % 2 else 2) * density(low + n * width) for n in range(1, steps))
    return (density(low) + inner + density(high)) * width / 3


@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.01, 0.001])
def test_the_chi_square_band_holds_its_share_of_the_law(alpha):
    band = bands.chi_square(1 << 20, 256, alpha)
    assert between(lambda x: chi_square_density(x, 255), band.low, band.high) == pytest.approx(
        1 - alpha, abs=2e-4)


def test_the_chi_square_band_ends_at_the_tables_value():
    assert bands.chi_square(1 << 30, 256, 0.1).high == pytest.approx(293.2478, abs=0.01)


#: Wu, Noonan, Agaian 2011, tables of critical values: side, alpha, NPCR (one-sided), UACI (two).
PUBLISHED = [
    (256, 0.05, 99.5693, 33.2824, 33.6447),
    (256, 0.01, 99.5527, 33.2255, 33.7016),
    (256, 0.001, 99.5341, 33.1594, 33.7677),
    (512, 0.05, 99.5893, 33.3730, 33.5541),
    (512, 0.01, 99.5810, 33.3445, 33.5826),
    (512, 0.001, 99.5717, 33.3115, 33.6156),
]


@pytest.mark.parametrize(("side", "alpha", "npcr", "low", "high"), PUBLISHED)
def test_npcr_and_uaci_have_the_published_critical_values(side, alpha, npcr, low, high):
    one_sided = bands.npcr(side * side, 256, 2 * alpha).low
    assert 100 * one_sided == pytest.approx(npcr, abs=1.01e-4)
    band = bands.uaci(side * side, 256, alpha)
    assert [100 * band.low, 100 * band.high] == pytest.approx([low, high], abs=1.01e-4)


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_uaci_has_the_moments_of_two_uniform_samples(levels):
    gaps = np.abs(np.subtract.outer(np.arange(levels), np.arange(levels))) / (levels - 1)
    band = bands.uaci(1, levels, 0.31731050786291415)  # one standard deviation
    assert band.expected == pytest.approx(gaps.mean())
    assert band.high - band.expected == pytest.approx(gaps.std())


@pytest.mark.parametrize("samples", [4096, 100_000, 2_000_000])
def test_the_band_of_few_equal_samples_is_that_of_the_binomial_law(samples):
    band, share = bands.npcr(samples, 65536, 0.05), 1 / 65536

    def probability(k):
        return math.comb(samples, k) * share**k * (1 - share) ** (samples - k)

    low, high = (round((1 - end) * samples) for end in (band.high, band.low))
    assert sum(map(probability, range(low))) <= 0.025 + 1e-4
    assert sum(map(probability, range(high))) < 0.975 + 1e-4 <= 1e-3 + sum(
        map(probability, range(high + 1)))


def test_entropy_of_many_samples_follows_the_g_test():
    samples = 10_000_000
    band, same = bands.entropy(samples, 256, 0.05), bands.chi_square(samples, 256, 0.05)
    as_g = [2 * samples * math.log(2) * (8 - end) for end in (band.high, band.expected, band.low)]
    assert as_g == pytest.approx([same.low, same.expected, same.high], rel=2e-3)


def test_too_few_samples_are_not_judged():
    assert not bands.enough(2000, 65536)
    assert bands.enough(4096, 65536)
    assert bands.enough(160, 256)
    assert not bands.enough(159, 256)


@pytest.mark.parametrize(("kind", "levels", "side"), [
    ("u1", 256, 24), ("u1", 256, 96), ("u2", 65536, 64), ("u2", 65536, 160),
])  # fmt: skip
def test_true_noise_is_outside_as_often_as_alpha_says(kind, levels, side):
    """400 pairs of images: 20 outside are expected at 5 %, 4 standard deviations are 17."""
    source, alpha, rounds = np.random.default_rng(79), 0.05, 400
    total = side * side
    bounds = {
        "entropy": bands.entropy(total, levels, alpha),
        "chi-square": bands.chi_square(total, levels, alpha),
        "npcr": bands.npcr(total, levels, alpha), "uaci": bands.uaci(total, levels, alpha),
        "correlation": bands.correlation(side * (side - 1), alpha),
        "diagonal": bands.correlation((side - 1) ** 2, alpha),
    }  # fmt: skip
    outside = dict.fromkeys(bounds, 0)
    for _ in range(rounds):
        one, other = source.integers(0, levels, (2, 1, side, side, 1)).astype(kind)
        found = measures.counts(one, levels)
        values = {
            "entropy": measures.entropy(found), "chi-square": measures.chi_square(found),
            "npcr": measures.npcr(one, other), "uaci": measures.uaci(one, other, levels),
            "correlation": measures.correlation(one, "vertical")[0],
            "diagonal": measures.correlation(one, "diagonal")[0],
        }  # fmt: skip
        for name, value in values.items():
            outside[name] += not bounds[name].holds(value)
    rare = outside.pop("npcr")  # whole numbers: a band may hold more than it must
    assert rare <= 37
    assert all(3 <= count <= 37 for count in outside.values()), outside
