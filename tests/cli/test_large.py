"""Files of gigabytes, in little memory."""

import os
import subprocess
import sys

import pydicom
import pytest

from dicomcrypt.native import _scan

LIMIT = 150  # MiB resident, the largest process of a command
#: Starts a command and prints the largest resident size of its processes, in KiB.
PEAK = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


@pytest.fixture
def peak(command):
    """Run a command; return (exit status, peak in MiB)."""

    def run(*arguments):
        words = [sys.executable, "-c", PEAK, *command.words, *map(os.fspath, arguments)]
        done = subprocess.run(words, check=False, stdout=subprocess.PIPE, timeout=590,
                              stdin=subprocess.DEVNULL, env=command.environment())
        return done.returncode, int(done.stdout) / 1024

    return run


def both_ways(source, tmp_path, keys, peak):
    """Encrypt, decrypt, compare; return the largest peak."""
    safe, back = tmp_path / "large.dcmx", tmp_path / "back"
    status, first = peak("encrypt", source, "-r", keys / "doctor.pub", "-o", safe)
    assert status == 0
    status, second = peak("decrypt", safe, "-i", keys / "doctor.key", "-o", back)
    assert status == 0
    safe.unlink()
    assert subprocess.run(["cmp", source, back], check=False).returncode == 0
    back.unlink()
    return max(first, second)


def sprinkle(path, size):
    """Make a sparse file of `size` bytes that is not all zeros."""
    with open(path, "r+b" if path.exists() else "wb") as file:
        start = file.seek(0, os.SEEK_END)
        file.truncate(size)
        for at in range(start, size, 64 << 20):
            file.seek(at)
            file.write(os.urandom(64 << 10)[: size - at])


def native_multiframe(path, dicom, frames):
    """A native object of `frames` frames of 1024 rows and columns, 16 bits."""
    ds = pydicom.dcmread(dicom)
    ds.Rows = ds.Columns = 1024
    ds.NumberOfFrames = frames
    del ds.PixelData
    if "DataSetTrailingPadding" in ds:
        del ds.DataSetTrailingPadding
    ds.save_as(path)
    size = frames << 21
    with open(path, "ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + size.to_bytes(4, "little"))
        end = file.tell() + size
    sprinkle(path, end)


def test_a_sparse_gigabyte_in_bounded_memory(tmp_path, keys, peak):
    sprinkle(tmp_path / "big", 1 << 30)
    assert both_ways(tmp_path / "big", tmp_path, keys, peak) < LIMIT


def test_half_a_gigabyte_of_frames_in_bounded_memory(tmp_path, keys, peak, dicom):
    native_multiframe(tmp_path / "us.dcm", dicom, 256)
    with open(tmp_path / "us.dcm", "rb") as file:
        assert _scan.Scan().feed(file.read(1 << 20), 0, False) == _scan.PIXELS
    assert both_ways(tmp_path / "us.dcm", tmp_path, keys, peak) < LIMIT


def test_a_pipe_of_a_quarter_gigabyte_in_bounded_memory(tmp_path, keys, command):
    sprinkle(tmp_path / "big", 1 << 28)
    line = ('"$0" -m dicomcrypt encrypt - -r "$1" < "$3" | "$0" -m dicomcrypt decrypt - -i "$2" '
            '| cmp - "$3"')
    # In a process of its own: what other tests started does not count.
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "bash", "-o", "pipefail", "-c", line, sys.executable,
         keys / "doctor.pub", keys / "doctor.key", tmp_path / "big"],
        check=False, env=command.environment(), timeout=100, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert done.returncode == 0
    assert int(done.stdout) / 1024 < LIMIT


@pytest.mark.soak
def test_four_sparse_gibibytes_and_more_in_bounded_memory(tmp_path, keys, peak):
    sprinkle(tmp_path / "big", (4 << 30) + 12345)
    assert both_ways(tmp_path / "big", tmp_path, keys, peak) < LIMIT


@pytest.mark.soak
def test_four_gibibytes_of_frames_in_bounded_memory(tmp_path, keys, peak, dicom):
    native_multiframe(tmp_path / "us.dcm", dicom, 2047)
    assert both_ways(tmp_path / "us.dcm", tmp_path, keys, peak) < LIMIT
