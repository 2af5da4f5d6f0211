"""The protocol of `dicomcrypt analyze`: what is encrypted how often, and what is compared."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..ciphers.transform import transform_into
from ..container.layout import PIXELS
from ..container.schedule import KeySchedule
from ..container.streams import StreamSealer, sealed_size
from ..errors import UsageError
from ..objects.buffers import GrowingSink
from . import bands, measures
from .subject import Subject

LAYER, SEALED = "layer", "sealed"
#: Samples wider than this are measured by byte only: 2^32 levels need too many samples.
WIDEST = 2
_IMAGE_BIT = "one bit of the image"
_OBJECT_KEY = "one bit of the object key"
_STREAM_KEY = "one bit of the block key, keystream half"
_TABLE_KEY = "one bit of the block key, table half"
Pair = tuple[bytes | bytearray, bytes | bytearray]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How it is measured. alpha: significance level of every band. trials: pairs of images for
    NPCR and UACI, each under a key of its own. seed: of keys and places; None: of the system."""

    alpha: float = 0.01
    trials: int = 8
    seed: int | None = None

    def facts(self) -> dict[str, Any]:
        return {
            "significance_level": self.alpha, "band": "two-sided", "trials": self.trials,
            "seed": self.seed,
            "neighbours": "all pairs of the same part of adjacent pixels, within a frame",
            "npcr_uaci": "two images that differ in what is named, each pair under a fresh key; "
                         "samples of all trials pooled",
        }  # fmt: skip


class _Cipher:
    """A subject through the block layer, or through it and the sealing."""

    def __init__(self, subject: Subject, method: str, of: str, core: bytes) -> None:
        self._subject, self._method, self._of, self._core = subject, method, of, core

    def keys(self, object_key: bytes) -> KeySchedule:
        return KeySchedule.from_object_key(object_key, self._core)

    def layer(self, data: bytes, block_key: bytes) -> bytearray:
        out = bytearray(len(data))
        transform_into(out, data, block_key, self._subject.runs, self._method,
                       sample_bytes=self._subject.sample)
        return out

    def output(self, data: bytes, object_key: bytes) -> bytes | bytearray:
        """Return as many bytes as there are of data: the sealed stream's first ones, or the
        layer's."""
        keys = self.keys(object_key)
        made = self.layer(data, keys.block_key(PIXELS))
        if self._of == LAYER:
            return made
        sink = GrowingSink(sealed_size(len(made)))
        sealer = StreamSealer(PIXELS, keys, sink)
        sealer.write(memoryview(made))
        sealer.finish()
        return sink.value()[: len(data)]


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _row(name: str, by: str, value: float | None, band: bands.Band | None, samples: int,
         before: float | None = None) -> dict[str, Any]:
    return {
        "measure": name, "by": by, "before": before, "value": value,
        "expected": band and band.expected, "low": band and band.low, "high": band and band.high,
        "samples": samples, "inside": None if band is None or value is None else band.holds(value),
    }  # fmt: skip


def _levels(subject: Subject) -> list[tuple[str, int]]:
    wide = 1 < subject.sample <= WIDEST
    return [("byte", 256)] + ([("sample", 256**subject.sample)] if wide else [])


def _still(subject: Subject, made: bytes | bytearray, alpha: float) -> list[dict[str, Any]]:
    """What is measured of one image: entropy, chi-square, correlation of neighbours."""
    rows = []
    for by, levels in _levels(subject):
        before, after = (measures.counts(subject.array(d, by), levels)
                         for d in (subject.data, made))
        total = int(after.sum())
        judged = bands.enough(total, levels)
        for name, measure, law in (("entropy", measures.entropy, bands.entropy),
                                   ("chi-square", measures.chi_square, bands.chi_square)):
            rows.append(_row(name, by, measure(after),
                             law(total, levels, alpha) if judged else None, total,
                             measure(before)))
        images = [subject.array(d, by, signed=True) for d in (subject.data, made)]
        for direction in measures.DIRECTIONS if subject.is_image else ("horizontal",):
            (old, _), (value, pairs) = (measures.correlation(i, direction) for i in images)
            if pairs:
                rows.append(_row(f"correlation {direction}", by, value,
                                 bands.correlation(pairs, alpha), pairs, old))
    return rows


def _pairs(subject: Subject, cipher: _Cipher, of: str, source: random.Random
           ) -> dict[str, Callable[[], Pair]]:  # fmt: skip
    """What is changed, and what encrypts a pair that differs in it."""
    data = subject.data

    def image() -> Pair:
        key, sample = source.randbytes(32), source.randrange(len(data) // subject.sample)
        lowest = subject.sample - 1 if subject.big_endian else 0
        other = _flipped(data, 8 * (sample * subject.sample + lowest))
        return cipher.output(data, key), cipher.output(other, key)

    def object_key() -> Pair:
        key = source.randbytes(32)
        other = _flipped(key, source.randrange(256))
        return cipher.output(data, key), cipher.output(data, other)

    def block_key(first: int) -> Pair:
        key = cipher.keys(source.randbytes(32)).block_key(PIXELS)
        other = _flipped(key, first + source.randrange(256))
        return cipher.layer(data, key), cipher.layer(data, other)

    found = {_IMAGE_BIT: image, _OBJECT_KEY: object_key}
    if of == LAYER:
        found |= {_STREAM_KEY: lambda: block_key(0), _TABLE_KEY: lambda: block_key(256)}
    return found


def _compared(
    subject: Subject, make: Callable[[], Pair], what: str, protocol: Protocol
) -> list[dict[str, Any]]:
    """NPCR and UACI over all trials."""
    found = {by: [0, 0] for by, _ in _levels(subject)}
    for _ in range(protocol.trials):
        one, other = make()
        for by, sums in found.items():
            for n, more in enumerate(measures.differences(subject.array(one, by),
                                                          subject.array(other, by))):
                sums[n] += more
    rows = []
    for by, levels in _levels(subject):
        width = 1 if by == "byte" else subject.sample
        total = protocol.trials * len(subject.data) // width
        changed, distance = found[by]
        rows.append(_row(f"NPCR, {what}", by, changed / total,
                         bands.npcr(total, levels, protocol.alpha), total))
        rows.append(_row(f"UACI, {what}", by, distance / total / (levels - 1),
                         bands.uaci(total, levels, protocol.alpha), total))
    return rows


def study(subject: Subject, method: str, *, of: str = LAYER, protocol: Protocol | None = None
          ) -> dict[str, Any]:
    """Measure a subject under one method: {"method", "of", "frame", "measures"}.

    method: "randomized", "aes-transposition", "vigenere", "multilevel" or "none". of: "layer" or
    "sealed". A measure has its value, the value of the image before, the band and whether it is
    inside (None: not judged, or not defined).
    Raises UsageError for a subject of less than one sample.
    """
    protocol = protocol or Protocol()
    if len(subject.data) < subject.sample:
        raise UsageError("the pixel data are shorter than one sample")
    seed = protocol.seed if protocol.seed is not None else os.urandom(32)
    source = random.Random(seed)  # keys of a measurement, they protect nothing
    cipher = _Cipher(subject, method, of, source.randbytes(32))
    rows = _still(subject, cipher.output(subject.data, source.randbytes(32)), protocol.alpha)
    for what, make in _pairs(subject, cipher, of, source).items():
        rows += _compared(subject, make, what, protocol)
    return {"method": method, "of": of, "frame": subject.frame, "measures": rows}


def one_output(subject: Subject, method: str, of: str) -> bytes | bytearray:
    """Return a subject's bytes as one encryption under a fresh key leaves them."""
    return _Cipher(subject, method, of, os.urandom(32)).output(subject.data, os.urandom(32))


def remarks(results: Sequence[dict[str, Any]], alpha: float) -> list[str]:
    """Say plainly what the results mean, one sentence each. alpha: significance level."""
    said = []
    for result in results:
        if result["method"] == "none" and result["of"] == LAYER:
            said.append("none: the layer leaves the image as it is")
            continue
        sure: list[str] = []
        other: list[str] = []
        judged = 0
        for row in result["measures"]:
            construed = result["of"] == LAYER and row["measure"].endswith(
                (_IMAGE_BIT, _TABLE_KEY))
            judged += row["inside"] is not None and not construed
            if row["inside"] is False:
                (sure if construed else other).append(row["measure"])
        name = result["method"] if result["of"] == LAYER else f"{result['method']}, sealed"
        where = "" if result["frame"] is None else f", frame {result['frame']}"
        text = f"{name}{where}: {len(other)} of {judged} measures outside"
        text += f" ({'; '.join(dict.fromkeys(other))})" if other else ""
        text += f", {alpha * judged:.1f} expected of ideal noise" if judged else ""
        if sure:
            text += f"; outside by construction: {'; '.join(dict.fromkeys(sure))}"
        said.append(text)
    if any(result["of"] == LAYER for result in results):
        said.append(
            "the block layer has no diffusion: a changed byte changes one byte, or one block if "
            "it changes the block's method; no two objects share a key")
        said.append(
            "the table half of a block key only moves bytes within 16 KiB (vigenere does not use "
            "it), so its key sensitivity follows the image; both halves come from the object key")
        said.append("measures inside their bands prove no security, those outside do not break "
                    "it: it rests on the sealing (AES-256-GCM), which --of sealed measures")
    else:
        said.append("the sealed stream's first bytes are measured, as many as the image has; "
                    "each sealing draws a fresh salt; no measure proves security")
    if any(row["inside"] is None for result in results for row in result["measures"]):
        said.append("not judged: too few samples for the number of levels, or one value only")
    return said
