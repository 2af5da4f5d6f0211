"""The kernels compute what the specification's plain form computes, in any windows, and touch
nothing else."""

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dicomcrypt as dc
from dicomcrypt.ciphers import METHODS, reference, transform_into
from dicomcrypt.ciphers.transform import LINEAR_UNIT, RANDOMIZED, Run, cipher, kernels

KEY = random.Random("key").randbytes(64)
TILE = 16384
NAMES = [name for name in METHODS if name != "none"]
USABLE = [name for name, verdict in kernels().items() if verdict == "ok"]
every_method = pytest.mark.parametrize("method", NAMES)


@pytest.fixture(params=USABLE, autouse=True)
def kernel(request, monkeypatch):
    """Every test runs on every kernel that can run here."""
    monkeypatch.setenv("DICOMCRYPT_KERNEL", request.param)
    return request.param


def examples(count):
    return settings(max_examples=count, deadline=None,
                    suppress_health_check=["function_scoped_fixture"])  # fmt: skip


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


def check(data, runs, method, sample_bytes=1):
    """The kernel and the reference agree, and decryption gives the data back."""
    wanted, methods = reference.transform(data, KEY, runs, method, sample_bytes=sample_bytes)
    out = bytearray(len(data))
    assert transform_into(out, data, KEY, runs, method, sample_bytes=sample_bytes) == methods
    assert out == wanted
    back = bytearray(len(data))
    transform_into(back, out, KEY, runs, methods, inverse=True)
    assert back == data
    assert reference.transform(wanted, KEY, runs, methods, inverse=True)[0] == data


# ---- against the reference ----------------------------------------------


@every_method
def test_every_small_size_is_the_reference_s(method):
    for size in range(1, 71):
        check(noise(size), [[0, size]], method)


@every_method
@pytest.mark.parametrize("border", [TILE, 2 * TILE, 4 * TILE, 8 * TILE], ids=str)
def test_sizes_around_tile_and_quarter_borders_are_the_reference_s(method, border):
    for change in (-17, -1, 0, 1, 3, 4, 5, 16):
        size = border + change
        check(noise(size), [[0, size]], method)


@pytest.mark.parametrize("change", [-1, 0, 1, 5, TILE])
def test_the_border_of_a_linear_unit_is_the_reference_s(change):
    size = LINEAR_UNIT + change
    check(noise(size), [[0, size]], "randomized")


SPLITS = st.integers(1, 70).flatmap(
    lambda width: st.tuples(
        st.just(width),
        st.sampled_from([s for s in range(1, width + 1)
                         if 2 * s >= width and (s == width or 3 * (width - s) >= width)]),
    )
)  # fmt: skip


@examples(25)
@given(
    st.integers(0, 5), st.integers(1, 9), SPLITS, st.integers(1, 1500), st.sampled_from(NAMES),
    st.sampled_from([1, 2, 4, 8]), st.integers(0, 3),
)  # fmt: skip
def test_random_frames_are_the_reference_s(skip, rows, split, length, method, sample, behind):
    runs = [[skip, length, rows, *split]]
    check(noise(skip + length + behind), runs, method, sample)


@examples(8)
@given(st.integers(1, 5), st.integers(1, 70_000), st.integers(-40, 40), st.sampled_from(NAMES))
def test_frames_with_wide_rows_are_the_reference_s(rows, width, change, method):
    length = max(1, 2 * rows * width + change)
    check(noise(length), [[0, length, rows, width, (width + 1) // 2]], method, 2)


@examples(15)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, TILE), st.booleans()),
                min_size=1, max_size=5), st.sampled_from(NAMES))  # fmt: skip
def test_units_are_counted_through_all_runs_of_a_stream(pieces, method):
    at, runs = 0, []
    for gap, length, framed in pieces:
        frame = [40, 90, 45] if framed else []
        runs.append([at + gap, length, *frame])
        at += gap + length
    data = noise(at + 9)
    check(data, runs, method)
    out = bytearray(len(data))
    transform_into(out, data, KEY, runs, method)
    inside = {n for run in runs for n in range(run[0], run[0] + run[1])}
    assert all(out[n] == data[n] for n in range(len(data)) if n not in inside)


@pytest.mark.parametrize("first", [0, 1, 2, 255, 65535, (1 << 26) - 1])
def test_the_unit_s_number_chooses_keystream_and_direction(first):
    data = noise(5000)
    run = Run(cipher(KEY), 0, len(data), first_unit=first, method=2)
    out = bytearray(len(data))
    assert run.advance(out, 0, data, 0) == len(data)
    expected = bytearray(len(data))
    for k in range(4):
        low, high = len(data) * k // 4, len(data) * (k + 1) // 4
        block = reference.np.frombuffer(data[low:high], "u1")
        expected[low:high] = reference.transform_block(block, KEY, first, k, 2, False).tobytes()
    assert out == expected


# ---- in windows ---------------------------------------------------------


def banded(data, shape, method, seed, *, methods=None, end=None, sample_bytes=1):
    """Push a run through random windows; `end`: where the source proves to end."""
    choose = random.Random(seed)
    rows, width, split = shape or (0, 0, 0)
    run = Run(cipher(KEY), 0, len(data), rows=rows, row_bytes=width, split=split, method=method,
              inverse=methods is not None, methods=methods, sample_bytes=sample_bytes)  # fmt: skip
    real = len(data) if end is None else end
    out, done = bytearray(b"\xee" * len(data)), 0
    while not run.finished:
        assert done < run.wanted <= len(data)
        if run.wanted > real:
            run.cut(real)
            if run.finished:
                break
        low, floor = (choose.choice((done, choose.randint(0, done))) for _ in "ab")
        high = min(real, run.wanted + choose.choice((0, choose.randint(0, 3 * TILE))))
        top = choose.choice((real, high, min(real, run.wanted + choose.randint(0, TILE))))
        window = memoryview(data)[low:high]
        done = run.advance(memoryview(out)[floor:top], floor, window, low)
    return bytes(out[:real]), run.methods


SHAPES = [None, (1, 1, 1), (7, 90, 45), (64, 700, 350), (3, 40_000, 20_000), (200, 301, 151)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", [RANDOMIZED, 0, 1, 2])
def test_random_windows_give_what_the_whole_gives(shape, method):
    size = {(1, 1, 1): 90, (7, 90, 45): 10_001}.get(shape, 200_001)
    data = noise(size)
    name = {-1: "randomized", 0: "aes-transposition", 1: "vigenere", 2: "multilevel"}[method]
    wanted = reference.transform(data, KEY, [[0, size, *(shape or ())]], name)
    for seed in range(4):
        assert banded(data, shape, method, seed) == wanted
        back, _ = banded(wanted[0], shape, method, seed, methods=wanted[1])
        assert back == data


@pytest.mark.parametrize("shape", SHAPES[2:], ids=str)
@pytest.mark.parametrize("end", [1, 2, 89, 90, 91, 6000, 44_800, 44_801, 120_000, 150_001])
def test_a_run_that_is_cut_is_as_if_it_had_been_shorter(shape, end):
    data = noise(10_001 if shape[0] == 7 else 200_001)
    end = min(end, len(data))
    wanted = reference.transform(data[:end], KEY, [[0, end, *shape]], "randomized")
    for seed in range(3):
        assert banded(data, shape, RANDOMIZED, seed, end=end) == wanted


def test_a_run_cut_at_its_start_is_finished():
    run = Run(cipher(KEY), 10, 100)
    run.cut(10)
    assert run.finished
    assert run.methods == b""


def test_windows_that_begin_too_late_or_overlap_are_refused():
    data, out = bytearray(noise(1000)), bytearray(1000)
    run = Run(cipher(KEY), 0, 1000)
    with pytest.raises(ValueError, match="behind"):
        run.advance(out, 0, data[1:], 1)
    with pytest.raises(ValueError, match="behind"):
        run.advance(memoryview(out)[1:], 1, data, 0)
    with pytest.raises(ValueError, match="overlap"):
        run.advance(data, 0, data, 0)
    assert not any(out)


# ---- what is refused ----------------------------------------------------

BAD_RUNS = {
    "overlap": [[0, 60], [59, 10]],
    "descending": [[50, 10], [0, 10]],
    "outside": [[0, 101]],
    "begins outside": [[100, 1]],
    "zero length": [[0, 0]],
    "negative": [[-1, 10]],
    "negative length": [[0, -1]],
    "one number": [[5]],
    "no number": [[]],
    "three numbers": [[0, 10, 2]],
    "no width": [[0, 10, 2, 0, 0]],
    "no rows": [[0, 10, 0, 5, 5]],
    "negative rows": [[0, 10, -1, 5, 5]],
    "split left": [[0, 10, 2, 10, 4]],
    "split far right": [[0, 10, 2, 10, 7]],
    "split outside": [[0, 10, 2, 10, 11]],
    "too wide": [[0, 10, 1, (1 << 20) + 1, (1 << 19) + 1]],
    "too many rows": [[0, 10, 1 << 32, 1, 1]],
    "huge": [[0, 1 << 70]],
}


@pytest.mark.parametrize("runs", BAD_RUNS.values(), ids=BAD_RUNS)
def test_runs_that_break_a_rule_are_refused(runs):
    with pytest.raises(dc.UsageError):
        transform_into(bytearray(100), noise(100), KEY, runs)


@pytest.mark.parametrize("methods", [b"", b"\0\0", b"\x03", b"\xc0", "randomized"], ids=repr)
def test_methods_that_do_not_fit_are_refused_when_decrypting(methods):
    with pytest.raises(dc.UsageError):
        transform_into(bytearray(100), noise(100), KEY, [[0, 100]], methods, inverse=True)


def test_methods_of_an_object_are_refused_when_encrypting():
    with pytest.raises(dc.UsageError, match="name"):
        transform_into(bytearray(100), noise(100), KEY, [[0, 100]], b"\0")


@pytest.mark.parametrize("method", ["", "rot13", "Vigenere"])
def test_an_unknown_method_is_refused(method):
    with pytest.raises(dc.UsageError):
        transform_into(bytearray(100), noise(100), KEY, [[0, 100]], method)


@pytest.mark.parametrize("shift", [0, 1, 50, 99])
def test_source_and_target_that_overlap_are_refused(shift):
    area = memoryview(bytearray(noise(300)))
    with pytest.raises(dc.UsageError):
        transform_into(area[shift : shift + 100], area[:100], KEY, [[0, 100]])


@pytest.mark.parametrize("shift", [0, 1, 50, 99])
def test_overlap_is_refused_though_a_run_does_not_lie_in_it(shift):
    area = memoryview(bytearray(noise(300)))
    with pytest.raises(dc.UsageError):
        transform_into(area[shift : shift + 100], area[:100], KEY, [[0, 1]])
    assert bytes(area) == noise(300)


@pytest.mark.parametrize(("target", "source"), [(100, 99), (99, 100), (0, 1)])
def test_source_and_target_of_two_sizes_are_refused(target, source):
    with pytest.raises(dc.UsageError):
        transform_into(bytearray(target), bytes(source), KEY, [])


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_a_key_of_another_length_is_refused(size):
    with pytest.raises(ValueError, match="64"):
        transform_into(bytearray(10), bytes(10), bytes(size), [[0, 10]])


@pytest.mark.parametrize("method", METHODS)
def test_without_runs_the_bytes_are_copied(method):
    out = bytearray(100)
    assert transform_into(out, noise(100), KEY, [], method) == b""
    assert out == noise(100)


# ---- which kernel -------------------------------------------------------


def demand(name):
    code = "from dicomcrypt.ciphers import active_kernel; print(active_kernel())"
    env = os.environ | {"DICOMCRYPT_KERNEL": name,
                        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}  # fmt: skip
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def test_the_kernel_that_is_demanded_is_the_one_that_runs(kernel):
    assert demand(kernel).stdout.strip() == kernel


@pytest.mark.parametrize("name", ["", *USABLE])
def test_without_a_demand_a_usable_kernel_runs(name):
    assert demand(name).stdout.strip() in USABLE


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("sse9", "unknown"), ("PORTABLE", "unknown"), ("-", "unknown"), ("\u00e4", "unknown")]
    + [(name, verdict) for name, verdict in kernels().items() if verdict != "ok"],
)
def test_a_kernel_that_cannot_run_is_an_error_that_names_those_that_can(name, verdict):
    run = demand(name)
    assert run.returncode != 0
    assert "KernelError" in run.stderr
    assert verdict in run.stderr
    assert "portable" in run.stderr
