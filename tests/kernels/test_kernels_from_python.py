"""Each kernel as Python gets it, against the executable specification and its vectors."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import dicomcrypt as dc
from dicomcrypt import ciphers
from dicomcrypt.ciphers import reference, transform
from dicomcrypt.native._block import kernels

VECTORS = Path(__file__).parents[1] / "vectors/block-layer-v1.json"
NAMES = ("portable", "aesni", "vaes256", "vaes512", "neon")


@pytest.fixture(params=NAMES)
def kernel(request, monkeypatch):
    """A kernel's name, demanded as a user would; one that cannot run here skips."""
    verdict = kernels()[request.param]
    if verdict != "ok" and request.param != "portable":
        pytest.skip(f"kernel {request.param}: {verdict}")
    monkeypatch.setenv("DICOMCRYPT_KERNEL", request.param)
    return request.param


def random_runs(chance: random.Random) -> tuple[list[list[int]], int]:
    """Some runs of every kind with gaps; and the size of their stream."""
    runs, at = [], chance.randrange(40)
    for _ in range(chance.randint(1, 4)):
        if chance.random() < 0.3:
            run = [at, chance.choice([chance.randint(1, 100), chance.randint(1, 200_000)])]
        else:
            step = chance.choice([1, 2, 16, 32, 64])
            row_bytes = step * chance.randint(1, max(2, 700 // step))
            split = row_bytes - chance.randint(-(-row_bytes // 3), row_bytes // 2) \
                if row_bytes > 3 and chance.random() < 0.8 else row_bytes
            if step > 1 and 2 * (split // step * step) >= row_bytes:
                split = split // step * step
            if 3 * (row_bytes - split) < row_bytes:
                split = row_bytes
            rows = chance.randint(1, 200)
            run = [at, chance.randint(1, 3 * rows * row_bytes), rows, row_bytes, split]
            run[1] = min(run[1], 250_000)
        runs.append(run)
        at += run[1] + chance.choice([0, 0, 1, 63])
    return runs, at + chance.randrange(20)


def test_all_kernels_are_known():
    assert tuple(kernels()) == NAMES
    assert kernels()["portable"] == "ok"


def test_the_demanded_kernel_runs(kernel):
    assert ciphers.active_kernel() == kernel
    assert NAMES[transform.cipher(bytes(64)).kernel] == kernel


@pytest.mark.parametrize("seed", range(4))
def test_random_geometry_equals_the_reference(kernel, seed):
    chance = random.Random(1000 * seed + NAMES.index(kernel))
    for method in ("randomized", "aes-transposition", "vigenere", "multilevel"):
        runs, size = random_runs(chance)
        key, plain = chance.randbytes(64), chance.randbytes(size)
        sample = chance.choice([1, 2, 4, 8])
        out, back = bytearray(size), bytearray(size)
        methods = ciphers.transform_into(out, plain, key, runs, method, sample_bytes=sample)
        expected = reference.transform(plain, key, runs, method, sample_bytes=sample)
        assert (bytes(out), methods) == expected, (runs, method, sample)
        ciphers.transform_into(back, out, key, runs, methods, inverse=True)
        assert back == plain, (runs, method, sample)


def test_vectors(kernel):
    """The independent implementation's answers, tiles and unit borders included."""
    for case in json.loads(VECTORS.read_text())["cases"]:
        recipe, size = case["plaintext"], case["size"]
        if "shake256" in recipe:
            plain = hashlib.shake_256(recipe["shake256"].encode()).digest(size)
        else:
            period = bytes(range(recipe["period"]))
            plain = (period * (size // len(period) + 1))[:size]
        key, methods = bytes.fromhex(case["key"]), bytes.fromhex(case["methods"])
        out, back = bytearray(size), bytearray(size)
        if case["method"] is not None:
            made = ciphers.transform_into(
                out, plain, key, case["runs"], case["method"], sample_bytes=case["sample_bytes"]
            )
            assert made == methods, case["name"]
            assert hashlib.sha256(out).hexdigest() == case["sha256"], case["name"]
        else:
            out = bytearray.fromhex(case["transformed"])
        ciphers.transform_into(back, out, key, case["runs"], methods, inverse=True)
        assert back == plain, case["name"]


def test_a_new_process_obeys_the_demand(kernel):
    code = "from dicomcrypt import ciphers; print(ciphers.active_kernel())"
    environment = {**os.environ, "DICOMCRYPT_KERNEL": kernel}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout == kernel + "\n", done.stderr


@pytest.mark.parametrize("demand", ["unknown", "Portable", "aesni ", "\udcff"])
def test_an_unknown_kernel_is_refused(monkeypatch, demand):
    monkeypatch.setenv("DICOMCRYPT_KERNEL", demand)
    usable = [name for name, verdict in kernels().items() if verdict == "ok"]
    with pytest.raises(dc.KernelError) as caught:
        ciphers.active_kernel()
    assert str(caught.value).endswith("use one of " + ", ".join(usable))
    with pytest.raises(dc.KernelError):
        ciphers.transform_into(bytearray(8), bytes(8), bytes(64), [(0, 8)])


@pytest.mark.parametrize("name", [name for name in NAMES if kernels()[name] != "ok"])
def test_a_kernel_that_cannot_run_is_refused(monkeypatch, name):
    verdict = kernels()[name]
    monkeypatch.setenv("DICOMCRYPT_KERNEL", name)
    with pytest.raises(dc.KernelError, match=verdict):
        ciphers.active_kernel()


def test_without_a_demand_the_fastest_runs(monkeypatch):
    monkeypatch.delenv("DICOMCRYPT_KERNEL", raising=False)
    order = ("vaes512", "vaes256", "aesni", "neon", "portable")
    fastest = next(name for name in order if kernels()[name] == "ok")
    assert ciphers.active_kernel() == fastest
    monkeypatch.setenv("DICOMCRYPT_KERNEL", "")
    assert ciphers.active_kernel() == fastest
