"""Fuzzing of what reads hostile objects: header, trailer, index, key files.

Seeds are the vectors in tests/vectors; the budget is fixed, `make soak` takes more.
"""

import json
import os
import pathlib
import random

import pytest

import dicomcrypt as dc
from dicomcrypt.container.index import parse_index
from dicomcrypt.container.layout import OPAQUE, PIXELS, TAIL
from dicomcrypt.container.reader import Container
from dicomcrypt.keys.keyfile import parse_identities, parse_recipients, read_identities
from dicomcrypt.objects.buffers import MemorySource
from dicomcrypt.objects.signing import unlock

VECTORS = pathlib.Path(__file__).resolve().parents[1] / "vectors"
DOCUMENT = json.loads((VECTORS / "objects.json").read_text())
IDENTITIES = [read_identities(text.encode())[0] for text in DOCUMENT["identities"].values()]
GOOD = sorted(
    {e["file"] for e in DOCUMENT["objects"] if e["exit"] == 0 and e["passphrase"] is None}
)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)
BUDGET = 1500


def mutate(rng, data, spread):
    """Change a few bytes in the first or last `spread` bytes: flips, extremes, cuts, copies."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = rng.randrange(min(spread, len(data)))
        if rng.random() < 0.3:
            at = len(data) - 1 - at
        kind = rng.random()
        if kind < 0.4:
            data[at] ^= 1 << rng.randrange(8)
        elif kind < 0.7:
            data[at] = rng.choice(EXTREMES)
        elif kind < 0.8:
            del data[at : at + rng.randint(1, 64)]
        elif kind < 0.9:
            data[at:at] = data[max(0, at - 40) : at]
        else:
            size = rng.choice((2, 4, 8))
            data[at : at + size] = rng.choice((b"\0", b"\xff", b"\x7f")) * size
    return bytes(data)


def opens(blob):
    """What an object gives: its bytes, or the error that it must give instead."""
    try:
        return dc.decrypt(blob, IDENTITIES)
    except dc.DicomcryptError as error:
        return type(error)


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_object_gives_its_own_bytes_or_an_error_of_ours(seed):
    rng = random.Random(seed)
    whole = {name: (VECTORS / name).read_bytes() for name in GOOD}
    plain = {name: opens(blob) for name, blob in whole.items()}
    for _ in range(BUDGET):
        name = rng.choice(GOOD)
        result = opens(mutate(rng, whole[name], rng.choice((72, 2048, 1 << 20))))
        assert isinstance(result, type) or result == plain[name], name


def indexes():
    """The indexes of all vectors, as (stream, payload size, CBOR)."""
    found = []
    for name in GOOD:
        opened = unlock(Container(MemorySource((VECTORS / name).read_bytes())), IDENTITIES)
        for sid in (PIXELS, TAIL, OPAQUE):
            if sid in opened.streams and opened.keys.opens(sid):
                index = opened.index(sid)
                found.append((sid, index.lengths[sid], index.encode()[:-4]))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_index_is_read_or_refused(seed):
    rng = random.Random(seed)
    seeds = indexes()
    for _ in range(8 * BUDGET):
        sid, payload, data = rng.choice(seeds)
        try:
            index = parse_index(mutate(rng, data, 1 << 20), sid, payload)
        except dc.DamagedError:
            continue
        assert index.lengths[sid] == payload
        assert all(run[0] + run[1] <= payload for run in index.runs)


def test_a_mutated_key_file_is_read_or_refused_without_being_shown():
    rng = random.Random(1)
    lines = [*DOCUMENT["identities"].values(), *DOCUMENT["recipients"].values()]
    for _ in range(BUDGET):
        text = mutate(rng, rng.choice(lines).encode(), 1 << 20).decode("utf-8", "replace")
        for parse in (parse_identities, parse_recipients):
            message = ""
            try:
                parse(text)
            except dc.UsageError as error:
                message = str(error)
            assert len(message) < 200


@pytest.mark.soak
def test_mutated_objects_for_long():
    import time

    end = time.monotonic() + float(os.environ.get("DICOMCRYPT_SOAK_SECONDS", "60")) / 4
    seed = 1000
    while time.monotonic() < end:
        test_a_mutated_object_gives_its_own_bytes_or_an_error_of_ours(seed)
        test_a_mutated_index_is_read_or_refused(seed)
        seed += 1
