"""The kernels in C: sanitizers, other processors, other byte orders, constant time."""

import hashlib
import json
import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TESTS = REPOSITORY / "csrc/tests"
SOURCES = [
    TESTS / "naive.c",
    TESTS / "test_aes.c",
    *sorted((REPOSITORY / "csrc/common").glob("*.c")),
    *sorted((REPOSITORY / "csrc/block").glob("*.c")),
]
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
SANITIZE = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Without a runtime, which Debian has for no foreign processor.
TRAP = ["-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-static"]
ON_X86 = platform.machine() in ("x86_64", "AMD64")


def build(folder: Path, compiler: str, flags: list[str], *programs: str) -> list[Path]:
    """Compile the kernels once and link them to each of the programs."""
    includes = [f"-I{REPOSITORY / place}" for place in ("csrc", "csrc/include", "csrc/tests")]
    common = [compiler, *WARNINGS, *flags, *includes, f"-I{folder}"]
    mains = [TESTS / f"{program}.c" for program in programs]
    if "harness" in programs:
        (folder / "vectors.inc").write_text(vectors())
        common.append('-DDCX_VECTORS="vectors.inc"')

    def run(command: list) -> None:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[:4000]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.parent.name}-{source.stem}.o"
        run([*common, "-c", source, "-o", target])
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, [*reversed(SOURCES), *mains]))
    shared, own = objects[: len(SOURCES)], objects[len(SOURCES) :]
    for program, main in zip(programs, own, strict=True):
        run([compiler, *flags, *shared, main, "-o", folder / program])
    return [folder / program for program in programs]


def vectors() -> str:
    """The vectors that are given in full, as C."""
    document = json.loads((REPOSITORY / "tests/vectors/block-layer-v1.json").read_text())
    entries = []

    def array(data: bytes) -> str:
        return "(const uint8_t[]){" + ",".join(map(str, data)) + "}"

    for case in document["cases"]:
        if not case["transformed"] or "shake256" not in case["plaintext"]:
            continue
        recipe = case["plaintext"]["shake256"].encode()
        plain = hashlib.shake_256(recipe).digest(case["size"])
        runs = ["{" + ",".join(f"UINT64_C({n})" for n in run) + "}" for run in case["runs"]]
        key = ",".join(map(str, bytes.fromhex(case["key"])))
        entries.append(
            f'{{"{case["name"]}", {{{key}}}, {case["size"]}, {len(runs)}, {{{",".join(runs)}}}, '
            f"{array(bytes.fromhex(case['methods']))}, {array(plain)}, "
            f"{array(bytes.fromhex(case['transformed']))}}},"
        )
    assert len(entries) > 100
    return "static const vector all_vectors[] = {\n" + "\n".join(entries) + "\n};\n"


def run(*command: object, timeout: int = 600) -> str:
    """Run a program that must succeed; return what it printed."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kernels_of(output: str) -> dict[str, str]:
    """Return the harness's words on each kernel."""
    lines = [line.removeprefix("kernel ") for line in output.splitlines() if "kernel " in line]
    assert any(line.endswith(" vectors") for line in output.splitlines())
    assert output.splitlines()[-1].endswith(" cases ok")
    assert int(output.splitlines()[-1].split()[0]) > 1000
    return dict(line.split(": ") for line in lines)


def run_all(programs: list[Path], *prefix: str, harness: list, fuzz: list) -> dict[str, str]:
    """Run the harness and the fuzzer; return the words on each kernel."""
    with ThreadPoolExecutor(2) as pool:
        fuzzed = pool.submit(run, *prefix, programs[1], *fuzz)
        found = kernels_of(run(*prefix, programs[0], *harness))
    assert fuzzed.result() == f"{fuzz[0]} inputs\n"
    return found


def test_native_with_sanitizers(tmp_path, need_command):
    compiler = need_command(os.environ.get("CC", "gcc"), "gcc")
    programs = build(tmp_path, compiler, SANITIZE, "harness", "fuzz_block")
    found = run_all(programs, harness=[200, 20_260, 3], fuzz=[500, 1])
    assert found["portable"] == "ran"
    assert set(found.values()) <= {"ran", "not built", "not on this processor"}
    # The Python module asks the same processor.
    from dicomcrypt.native._block import kernels

    words = {"ran": "ok", "not on this processor": "not supported by this processor"}
    assert {name: words.get(word, word) for name, word in found.items()} == kernels()


def test_arm_under_emulation(tmp_path, need_command):
    compiler = need_command("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    emulator = need_command("qemu-aarch64", "qemu-user")
    programs = build(tmp_path, compiler, TRAP, "harness", "fuzz_block")
    found = run_all(programs, emulator, "-cpu", "max", harness=[20, 1, 16], fuzz=[40, 1])
    assert found.pop("neon") == found.pop("portable") == "ran"
    assert set(found.values()) == {"not built"}


def test_big_endian_under_emulation(tmp_path, need_command):
    compiler = need_command("s390x-linux-gnu-gcc", "gcc-s390x-linux-gnu libc6-dev-s390x-cross")
    emulator = need_command("qemu-s390x", "qemu-user")
    programs = build(tmp_path, compiler, TRAP, "harness", "fuzz_block")
    found = run_all(programs, emulator, harness=[20, 1, 16], fuzz=[40, 1])
    assert found.pop("portable") == "ran"
    assert set(found.values()) == {"not built"}


@pytest.mark.skipif(not ON_X86, reason="the emulated program is for x86")
def test_older_processors_under_emulation(tmp_path, need_command):
    """Which kernels run is read off the processor, and no other instruction is met."""
    compiler = need_command(os.environ.get("CC", "gcc"), "gcc")
    emulator = need_command("qemu-x86_64", "qemu-user")
    (harness,) = build(tmp_path, compiler, ["-O1", "-static"], "harness")
    # Not "max": qemu 7.2 gets the upper half of 32-byte VAES wrong.
    old = kernels_of(run(emulator, "-cpu", "core2duo", harness, 5, 1, 100))
    new = kernels_of(run(emulator, "-cpu", "Westmere", harness, 5, 1, 100))
    missing = {name: "not on this processor" for name in ("aesni", "vaes256", "vaes512")}
    assert old == {"portable": "ran", **missing, "neon": "not built"}
    assert new == {**old, "aesni": "ran"}


def constant_time(command: list, kernels: list[str], report: str) -> None:
    """No leak in the kernels, and each leak that is put in is found."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda kernel: constant_time_of(command, kernel, report), kernels))


def constant_time_of(command: list, kernel: str, report: str) -> None:
    for leak in ("branch", "index", "output"):
        done = subprocess.run(
            [*command, kernel, leak], capture_output=True, text=True, timeout=600
        )
        if done.returncode == 77:
            assert kernel != "portable"
            return
        where = "transform" if leak == "output" else "leaky"
        assert done.returncode != 0, f"{leak} is not found in {kernel}"
        assert report in done.stderr.lower(), done.stderr
        assert where in done.stderr
    printed = run(*command, kernel)
    assert printed.startswith(f"kernel {kernel}: ")
    assert printed.endswith(" runs without a leak\n")


def test_constant_time_with_memcheck(tmp_path, need_command):
    compiler = need_command(os.environ.get("CC", "gcc"), "gcc")
    valgrind = need_command("valgrind", "valgrind")
    flags = ["-O2", "-g1", "-include", str(TESTS / "constant_time.h")]
    (program,) = build(tmp_path, compiler, flags, "constant_time")
    command = [valgrind, "-q", "--error-exitcode=9", "--exit-on-first-error=yes", str(program)]
    constant_time(command, ["portable", "aesni"], "uninitialised value")


def test_constant_time_with_memory_sanitizer(tmp_path, need_command):
    compiler = need_command("clang", "clang libclang-rt-14-dev")
    trial = tmp_path / "trial.c"
    trial.write_text("int main(void) { return 0; }\n")
    flags = ["-O2", "-g1", "-fsanitize=memory", "-include", str(TESTS / "constant_time.h")]
    # Newer ones report a secret as soon as a function takes or returns it.
    eager = "-fno-sanitize-memory-param-retval"
    probe = [compiler, "-Werror", "-fsanitize=memory", eager, trial, "-o", tmp_path / "trial"]
    if subprocess.run(probe, capture_output=True).returncode == 0:
        flags.append(eager)
    (program,) = build(tmp_path, compiler, flags, "constant_time")
    kernels = ["portable", "aesni", "vaes256", "vaes512"]
    constant_time([str(program)], kernels, "use-of-uninitialized-value")
