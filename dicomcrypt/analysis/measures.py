"""The measures themselves, on arrays of unsigned integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

_STRIDE = 1 << 22  # samples that are compared at a time: memory is bounded


def counts(values: numpy.ndarray, levels: int) -> numpy.ndarray:
    """Return how often each level occurs."""
    import numpy

    flat, found = values.reshape(-1), numpy.zeros(levels, numpy.int64)
    for at in range(0, len(flat), _STRIDE):
        found += numpy.bincount(flat[at : at + _STRIDE], minlength=levels)
    return found


def entropy(found: numpy.ndarray) -> float:
    """Return Shannon's entropy of counted levels, bits a sample (0 log 0 = 0)."""
    import numpy

    shares = found[found > 0] / found.sum()
    return float(-(shares * numpy.log2(shares)).sum()) + 0.0


def chi_square(found: numpy.ndarray) -> float:
    """Return Pearson's statistic of counted levels against equal counts."""
    expected = found.sum() / len(found)
    return float(((found - expected) ** 2).sum() / expected)


#: Direction: what is left out of (rows, columns) for a sample, and for its neighbour.
_ALL, _FIRST, _REST = slice(None), slice(None, -1), slice(1, None)
DIRECTIONS = {
    "horizontal": ((_ALL, _FIRST), (_ALL, _REST)),
    "vertical": ((_FIRST, _ALL), (_REST, _ALL)),
    "diagonal": ((_FIRST, _FIRST), (_REST, _REST)),
}


def correlation(image: numpy.ndarray, direction: str) -> tuple[float | None, int]:
    """Return Pearson's coefficient of all neighbouring pairs of one direction, and their number.

    image: (frames, rows, columns, parts of a pixel); neighbours are the same part of the next
    pixel of the same frame. None where it is not defined: no pairs, or one value only."""
    import numpy

    places = DIRECTIONS[direction]
    centre = float(image[0].mean())
    sums = numpy.zeros(5)
    pairs = 0
    for frame in image:
        a, b = (frame[place].astype(numpy.float64).ravel() - centre for place in places)
        pairs += len(a)
        sums += [part.sum() for part in (a, b, a * a, b * b, a * b)]
    if not pairs:
        return None, 0
    a, b, aa, bb, ab = sums / pairs
    spread = (aa - a * a) * (bb - b * b)
    if not spread > 1e-18 * max(aa * bb, 1e-300):
        return None, pairs
    return float((ab - a * b) / spread**0.5), pairs


def differences(one: numpy.ndarray, other: numpy.ndarray) -> tuple[int, int]:
    """Return how many samples differ between two images, and the sum of their distances."""
    import numpy

    one, other = one.reshape(-1), other.reshape(-1)
    changed = distance = 0
    for at in range(0, len(one), _STRIDE):
        gap = one[at : at + _STRIDE].astype(numpy.int64) - other[at : at + _STRIDE]
        changed += int(numpy.count_nonzero(gap))
        distance += int(numpy.abs(gap).sum())
    return changed, distance


def npcr(one: numpy.ndarray, other: numpy.ndarray) -> float:
    """Return the number of pixels change rate, 0 to 1."""
    return differences(one, other)[0] / one.size


def uaci(one: numpy.ndarray, other: numpy.ndarray, levels: int) -> float:
    """Return the unified average changing intensity, 0 to 1."""
    return differences(one, other)[1] / one.size / (levels - 1)
