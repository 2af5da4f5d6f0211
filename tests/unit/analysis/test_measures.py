"""Each measure against a known value or another way to compute it."""

import math

import numpy as np
import pytest

from dicomcrypt.analysis import bands, measures


def image(values, shape):
    return np.asarray(values).reshape(shape)


def test_a_constant_image_has_no_entropy_and_no_correlation():
    flat = np.full((1, 32, 32, 1), 7, np.uint8)
    found = measures.counts(flat, 256)
    assert measures.entropy(found) == 0.0
    assert measures.chi_square(found) == 1024 * 255
    assert measures.correlation(flat, "horizontal") == (None, 32 * 31)
    assert measures.differences(flat, flat) == (0, 0)


def test_a_counter_is_too_even_for_noise():
    counter = image(np.arange(65536) % 256, (1, 256, 256, 1)).astype(np.uint8)
    found = measures.counts(counter, 256)
    assert measures.entropy(found) == 8.0
    assert measures.chi_square(found) == 0.0
    assert not bands.chi_square(65536, 256, 0.01).holds(0.0)
    assert not bands.entropy(65536, 256, 0.01).holds(8.0)
    assert measures.correlation(counter, "horizontal")[0] == pytest.approx(1.0)
    assert measures.correlation(counter, "vertical")[0] == pytest.approx(1.0)


def test_two_levels_have_the_entropy_of_a_coin():
    shares = np.array([1, 3, 0, 0])
    assert measures.entropy(shares) == pytest.approx(-(0.25 * math.log2(0.25)
                                                      + 0.75 * math.log2(0.75)))
    assert measures.chi_square(shares) == 6.0  # (0 + 4 + 1 + 1) / 1


@pytest.mark.parametrize("kind", ["u1", "i2", "u2"])
@pytest.mark.parametrize("direction", list(measures.DIRECTIONS))
def test_correlation_is_numpy_s_over_the_pairs_listed_one_by_one(kind, direction):
    source = np.random.default_rng(1)
    smooth = source.integers(-20, 20, (2, 9, 11, 3)).cumsum(axis=2).cumsum(axis=1) + 100
    frames = smooth.astype(kind)
    down, right = {"horizontal": (0, 1), "vertical": (1, 0), "diagonal": (1, 1)}[direction]
    pairs = [(frames[f, y, x, c], frames[f, y + down, x + right, c])
             for f in range(2) for y in range(9 - down) for x in range(11 - right)
             for c in range(3)]
    first, second = np.array(pairs, float).T
    found, count = measures.correlation(frames, direction)
    assert count == len(pairs)
    assert found == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-12)


def test_a_single_row_has_no_vertical_pairs():
    assert measures.correlation(np.zeros((1, 1, 9, 1), np.uint8), "vertical") == (None, 0)


def test_npcr_and_uaci_of_known_pairs():
    black, white = np.zeros((1, 4, 4, 1), np.uint8), np.full((1, 4, 4, 1), 255, np.uint8)
    assert (measures.npcr(black, white), measures.uaci(black, white, 256)) == (1.0, 1.0)
    half = black.copy()
    half[0, :2] = 51
    assert (measures.npcr(black, half), measures.uaci(black, half, 256)) == (0.5, 0.1)
    assert measures.uaci(half, black, 256) == 0.1


@pytest.mark.parametrize(("kind", "levels"), [("u1", 256), (">u2", 65536)])
def test_long_images_are_compared_in_pieces_alike(monkeypatch, kind, levels):
    source = np.random.default_rng(2)
    one, other = source.integers(0, levels, (2, 1, 50, 41, 1)).astype(kind)
    plain = [int(v) for v in one.ravel()], [int(v) for v in other.ravel()]
    expected = (sum(a != b for a, b in zip(*plain, strict=True)),
                sum(abs(a - b) for a, b in zip(*plain, strict=True)))
    assert measures.differences(one, other) == expected
    found = measures.counts(one, levels)
    monkeypatch.setattr(measures, "_STRIDE", 97)
    assert measures.differences(one, other) == expected
    assert (measures.counts(one, levels) == found).all()
    assert found.tolist() == [plain[0].count(n) for n in range(levels)] if levels == 256 else True
