"""The secret by which UIDs are replaced."""

import threading

import pytest

from dicomcrypt.standard.uids import load_key


def test_jobs_that_make_the_same_key_at_once_agree(tmp_path):
    for number in range(10):
        found, start = [], threading.Barrier(6)
        path = str(tmp_path / str(number))

        def job(path=path, found=found, start=start):
            start.wait()
            found.append(load_key(path))

        threads = [threading.Thread(target=job) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        assert len(set(found)) == 1


def test_a_link_to_nowhere_is_no_key(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        load_key(str(tmp_path / "link"))
    assert not (tmp_path / "nowhere").exists()
