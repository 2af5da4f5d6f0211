"""The main job on real DICOM files: `make demo`.

Encrypts the files that pydicom ships (every transfer syntax, broken ones included), shows that
they are unreadable, takes one frame out, gives every byte back and compares, then
shows what happens to a wrong key and to a forged object. Leaves its files in demo-out/.
"""

from __future__ import annotations

import collections
import filecmp
import importlib.util
import math
import os
import pathlib
import shutil
import subprocess
import sys

OUT = pathlib.Path("demo-out")
#: The command as `pip install` put it beside this Python.
COMMAND = str(pathlib.Path(sys.executable).parent / "dicomcrypt")
ENVIRONMENT = {**os.environ, "COLUMNS": "100"}


def run(*arguments: str, expect: int = 0, show: int = 12) -> str:
    """Run a dicomcrypt command as a user would, show it and what it says."""
    print(f"\n$ dicomcrypt {' '.join(arguments)}", flush=True)
    done = subprocess.run(
        [COMMAND, *arguments],
        capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    lines = (done.stdout + done.stderr).splitlines()
    for line in lines[:show]:
        print(f"  {line}")
    if len(lines) > show:
        print(f"  ... {len(lines) - show} more lines")
    if done.returncode:
        print(f"  (exit status {done.returncode})")
    if done.returncode != expect:
        raise SystemExit(f"expected exit status {expect}, got {done.returncode}")
    return done.stdout


def bits_a_byte(data: bytes) -> float:
    """Entropy of the bytes: 8.0 is what noise has."""
    counts = collections.Counter(data)
    return -sum(n / len(data) * math.log2(n / len(data)) for n in counts.values())


def pictures(original: pathlib.Path, encrypted: pathlib.Path) -> None:
    """Show the image beside what is stored of it."""
    try:
        import pydicom
        from PIL import Image
    except ImportError:
        return
    dataset = pydicom.dcmread(original)
    size = (dataset.Columns * 2, dataset.Rows)
    data = encrypted.read_bytes()[-(size[0] * size[1]) - 400 :][: size[0] * size[1]]
    target = OUT / "what-is-stored.png"
    Image.frombytes("L", size, data).save(target)
    print(f"\nThe stored pixel data as a picture: {target}")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    place = importlib.util.find_spec("pydicom").submodule_search_locations[0]
    source = OUT / "archive"
    shutil.copytree(pathlib.Path(place) / "data" / "test_files", source)
    files = sorted(p for p in source.rglob("*") if p.is_file())
    total = sum(p.stat().st_size for p in files)
    print(f"{len(files)} real files, {total / 1e6:.1f} MB, in {source}")

    run("keygen", "-o", str(OUT / "doctor.key"))
    run("encrypt", str(source), "-r", str(OUT / "doctor.pub"), "-o", str(OUT / "safe"))

    ct, ct_safe = source / "CT_small.dcm", OUT / "safe" / "CT_small.dcm.dcmx"
    plain, sealed = ct.read_bytes(), ct_safe.read_bytes()
    print(f"\n{ct}: {bits_a_byte(plain):.3f} bits of information a byte, "
          f"patient name in clear: {b'CompressedSamples' in plain}")
    print(f"{ct_safe}: {bits_a_byte(sealed[5200:]):.3f} bits, "
          f"patient name in clear: {b'CompressedSamples' in sealed}")
    pictures(ct, ct_safe)

    run("inspect", str(ct_safe))
    run("inspect", str(ct_safe), "-i", str(OUT / "doctor.key"), show=60)
    frames = OUT / "safe" / "rtdose.dcm.dcmx"
    run("frame", str(frames), "-n", "7", "-i", str(OUT / "doctor.key"), "-o",
        str(OUT / "dose-7.png"))
    run("verify", str(OUT / "safe"), "-i", str(OUT / "doctor.key"))

    run("decrypt", str(OUT / "safe"), "-i", str(OUT / "doctor.key"), "-o", str(OUT / "back"))
    different = [p for p in files if not filecmp.cmp(p, OUT / "back" / p.relative_to(source),
                                                     shallow=False)]
    print(f"\ncompared {len(files)} files byte for byte: {len(different)} differ")
    if different:
        raise SystemExit(f"not identical: {different}")

    run("keygen", "-o", str(OUT / "stranger.key"))
    run("decrypt", str(ct_safe), "-i", str(OUT / "stranger.key"), "-o", str(OUT / "no"), expect=3)
    forged = bytearray(sealed)
    forged[20000] ^= 1
    (OUT / "forged.dcmx").write_bytes(forged)
    run("decrypt", str(OUT / "forged.dcmx"), "-i", str(OUT / "doctor.key"), "-o", str(OUT / "no"),
        expect=4)
    assert not (OUT / "no").exists()
    print(f"\nEverything came back identical; nothing was released to a stranger or a forger.\n"
          f"The files are in {OUT}/.")


if __name__ == "__main__":
    main()
