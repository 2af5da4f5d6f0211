"""Each kernel that this machine has, method, direction and shape; memory's own speed."""

import pytest

from dicomcrypt.ciphers.transform import active_kernel, kernels
from dicomcrypt.cli.measure import METHOD_NAMES, MIB, SHAPES, aes_gcm, block_work, memory_copy

USABLE = [name for name, verdict in kernels().items() if verdict == "ok"]


@pytest.mark.parametrize("size", [64 * 1024, 16 * MIB], ids=["64KiB", "16MiB"])
def test_memory_copy(measure, size):
    row = measure(f"memory copy {size >> 10} KiB", memory_copy(size), size,
                  rounds=2000 if size < MIB else 60)
    assert row.gb_per_s > 0


@pytest.mark.parametrize("size", [64 * 1024, 16 * MIB], ids=["64KiB", "16MiB"])
def test_aes_gcm(measure, size):
    work = aes_gcm(bytearray(size))
    same = "aes-256-gcm" if size < MIB else "aes-256-gcm, 16 MiB"  # one more sight of yardsticks
    measure(f"aes-256-gcm {size >> 10} KiB", work, size, rounds=2000, yardstick=work,
            yardstick_size=size, yardstick_name=same)


@pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", USABLE)
def test_kernel(measure, short, name, shape, method, inverse):
    if short and (name != active_kernel() or shape not in ("contiguous", "512x512x16")):
        pytest.skip("only the kernel in use, in two shapes")
    work, size = block_work(shape, method, inverse, name)  # checks the answer
    direction = "inverse" if inverse else "forward"
    measure(f"{name} {shape} {method} {direction}", work, size,
            rounds=20 if name == "portable" else 300)
