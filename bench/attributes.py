"""How quick `standard protect` is on 1,000 CT images, and gdcmanon, a process a file.

    python bench/attributes.py [FOLDER] [FILES]

Both are timed in turn, so that both get the same machine. Needs libgdcm-tools.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

ROUNDS, THEIRS = 3, 100


def make_files(folder, count):
    """CT images of 512 x 512 with the tags of pydicom's CT_small.dcm."""
    folder.mkdir()
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.Rows = dataset.Columns = 512
    dataset.PixelData = np.random.default_rng(1).integers(0, 2000, (512, 512), "<i2").tobytes()
    for number in range(1, count + 1):
        uid = f"1.2.826.0.1.3680043.10.1.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.InstanceNumber = number
        dataset.save_as(folder / f"{number:05}.dcm")


def used():
    times = os.times()
    return times.children_user + times.children_system


def timed(work):
    before, began = used(), time.perf_counter()
    work()
    return time.perf_counter() - began, used() - before


def main(folder=None, count="1000"):
    root = pathlib.Path(tempfile.mkdtemp(dir=folder))
    source, out, count = root / "ct", root / "out", int(count)
    key, cert = root / "key.pem", root / "cert.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
             cert, "-subj", "/CN=Doctor"], check=True, capture_output=True)  # fmt: skip
        make_files(source, count)
        files = sorted(source.iterdir())
        ours, theirs = [], []

        def protect():
            subprocess.run(
                [sys.executable, "-m", "dicomcrypt", "standard", "protect", source, "-r", cert,
                 "-o", out, "-q"], check=True)  # fmt: skip

        def gdcmanon():
            for path in files[:THEIRS]:
                subprocess.run(["/usr/bin/gdcmanon", "-e", "-c", cert, "-i", path, "-o",
                                root / "one.dcm"], check=True)

        for _ in range(ROUNDS):
            ours.append(timed(protect))
            shutil.rmtree(out)
            theirs.append(timed(gdcmanon))
        for name, found, each in (("protect", ours, count), ("gdcmanon", theirs, THEIRS)):
            wall, processor = (statistics.median(column) / each for column in zip(*found,
                                                                                strict=True))
            print(f"{name}: {1 / wall:.0f} files/s, {1000 * processor:.2f} ms of processor a file")
        ratio = statistics.median(t[0] / THEIRS / (o[0] / count)
                                  for o, t in zip(ours, theirs, strict=True))
        print(f"protect is {ratio:.0f} times as quick")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main(*sys.argv[1:])
