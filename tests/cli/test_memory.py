"""Memory of every process of a tree's job: below 100 MB, whatever the tree holds.

Run with -s for the figures. The long forms are `make soak`.
"""

import os
import subprocess

import pytest
from memory import sample

LIMIT = 100  # MB resident, any process of a command


@pytest.fixture
def sampled(command):
    def run(*arguments):
        found = sample([*command.words, *map(os.fspath, arguments)], env=command.environment())
        print(f"\n{arguments[0]} {found.text()}")
        assert found.status == 0, found.err
        assert found.largest < LIMIT, found.text()
        return found

    return run


def one_large_object(folder, keys, size, sampled, *, jobs="2"):
    """Both ways as a tree, so that a worker does it; the tree holds a small file, too."""
    root, safe, back = folder / "in", folder / "safe", folder / "back"
    root.mkdir()
    (root / "small").write_bytes(b"small")
    with open(root / "large", "wb") as file:
        file.truncate(size)
        for at in range(0, size - 100_000, size // 50):
            file.seek(at)
            file.write(os.urandom(70_000))
    sampled("encrypt", root, "-r", keys / "doctor.pub", "-o", safe, "-j", jobs, "--method", "none")
    sampled("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", jobs)
    (safe / "large.dcmx").unlink()
    assert subprocess.run(["cmp", root / "large", back / "large"], check=False).returncode == 0
    (back / "large").unlink()


def test_a_large_object_in_a_tree(tmp_path, keys, sampled):
    one_large_object(tmp_path, keys, 600_000_000, sampled)


@pytest.mark.soak
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ten_gigabytes_in_a_tree(tmp_path, keys, sampled, jobs):
    one_large_object(tmp_path, keys, 10_000_000_000, sampled, jobs=jobs)


def many_entries(folder, keys, count, shard, sampled):
    """A folder of so many entries: all are walked, those of a shard are encrypted and decrypted."""
    root, safe, back = folder / "in", folder / "safe", folder / "back"
    root.mkdir()
    for number in range(count):
        os.close(os.open(root / f"image{number:07}.dcm", os.O_CREAT | os.O_WRONLY))
    key = ["-r", keys / "doctor.pub"]
    found = sampled("encrypt", root, *key, "-o", safe, "--dry-run")
    assert f"{count} to do" in found.err
    sampled("encrypt", root, *key, "-o", safe, "-j", "2", "--shard", shard)
    sampled("decrypt", safe, "-i", keys / "doctor.key", "-o", back, "-j", "2")
    made = len(os.listdir(safe))
    number, parts = map(int, shard.split("/"))
    assert abs(made - count / parts) < count / parts / 5
    assert sorted(name + ".dcmx" for name in os.listdir(back)) == sorted(os.listdir(safe))
    return made


def test_a_folder_of_twenty_thousand_entries(tmp_path, keys, sampled):
    many_entries(tmp_path, keys, 20_000, "1/10", sampled)


@pytest.mark.soak
def test_a_folder_of_a_million_entries(tmp_path, keys, sampled):
    assert many_entries(tmp_path, keys, 1_000_000, "2/9", sampled) > 100_000
