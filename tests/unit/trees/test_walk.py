"""What a tree's walk finds, in which order, and in how much memory."""

import os
import tracemalloc

import pytest

from dicomcrypt.trees import walk as walks
from dicomcrypt.trees.walk import Entry, Survey, in_shard, walk


def names(root, **more):
    return [e.relative for e in walk(str(root), **more)]


def test_folders_come_before_what_is_in_them_in_order_of_names(tmp_path):
    for name in ("b/z", "b/a", "a", "c/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    assert names(tmp_path) == [b"a", b"b", b"b/a", b"b/z", b"c", b"c/d", b"c/d/e", b"empty"]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 48, 50])
def test_folders_larger_than_a_block_are_whole(tmp_path, monkeypatch, count):
    monkeypatch.setattr(walks, "BLOCK", 16)
    for number in range(count):
        (tmp_path / f"{number:03}").touch()
    found = names(tmp_path)
    assert sorted(found) == [b"%03d" % n for n in range(count)]
    if count <= 16:
        assert found == sorted(found)


def test_files_made_and_removed_meanwhile_do_no_harm(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02}").touch()
    found = []
    for entry in walk(str(tmp_path)):
        found.append(entry)
        (tmp_path / f"new{len(found)}").touch()
        if entry.relative == b"05":
            os.unlink(tmp_path / "15")
    assert len(found) == 20
    assert [e.relative for e in found if e.kind == "error"] == [b"15"]
    assert "no such file" in next(e.error for e in found if e.kind == "error")


def test_kinds(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    os.link(tmp_path / "file", tmp_path / "hard")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("folder")
    os.mkfifo(tmp_path / "pipe")
    found = {e.relative: e for e in walk(str(tmp_path))}
    assert {name: e.kind for name, e in found.items()} == {
        b"file": "file", b"hard": "file", b"link": "link", b"folder": "folder", b"loop": "link",
        b"pipe": "other"}
    assert found[b"file"].size == 5
    assert found[b"file"].hard_links == found[b"hard"].hard_links == 2


def test_outputs_in_progress_are_told_apart_from_all_that_is_like_them(tmp_path):
    from dicomcrypt.objects.atomic import is_part, new_part_name

    made = [new_part_name(), new_part_name("0123abcd")]
    alike = [".dcmx-.part", ".dcmx-0123.part", ".dcmx-0123456789xy.part", ".dcmx-journal", ".part",
             made[0] + "x", "x" + made[0]]
    for name in made + alike:
        (tmp_path / name).touch()
    kinds = {entry.relative: entry.kind for entry in walk(str(tmp_path))}
    assert kinds == {os.fsencode(name): "part" if name in made else "file" for name in made + alike}
    assert all(is_part(os.fsencode(name)) for name in made)


def test_a_missing_folder_is_an_error_entry(tmp_path):
    (entry,) = walk(str(tmp_path / "missing"))
    assert entry.kind == "error"
    assert "no such file" in entry.error


@pytest.mark.parametrize("pair", [("a", "A"), ("\u00e4", "\u00c4"), ("stra\u00dfe", "STRASSE")])
def test_names_that_collide_but_for_case_are_named_where_case_is_folded(tmp_path, pair):
    for name in pair:
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / pair[0]).touch()  # another folder, no collision
    if len(os.listdir(tmp_path)) != 3:
        pytest.skip("this file system folds case itself")
    assert {e.kind for e in walk(str(tmp_path))} == {"file", "folder"}
    errors = [e for e in walk(str(tmp_path), fold_case=True) if e.kind == "error"]
    assert len(errors) == 1
    assert "upper and lower case" in errors[0].error


def test_names_that_are_not_utf_8(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"\xff\xfe"), "wb"):
        pass
    assert names(tmp_path) == names(tmp_path, fold_case=True) == [b"\xff\xfe"]


def test_many_names_in_the_memory_of_their_bytes(tmp_path):
    """Twice, since the survey walks, too; a million must fit beside everything else."""
    count = 10_000
    stem = "1.2.840.113619.2.55.3.1234567890.123.1234567890"
    for number in range(count):
        os.close(os.open(tmp_path / f"{stem}.{number:07}.dcm", os.O_CREAT | os.O_WRONLY))
    original, walks.BLOCK = walks.BLOCK, 1000
    tracemalloc.start()
    try:
        walking = walk(str(tmp_path))
        next(walking)
        next(iter(walking))
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        walks.BLOCK = original
    assert now < count * 20 + 300_000, "bytes a name"
    assert 2 + sum(1 for _ in walking) == count


# ---- surveys ------------------------------------------------------------------------------


def entries(sizes):
    return [Entry(b"%03d" % n, "file", size) for n, size in enumerate(sizes)]


def test_large_files_come_first_as_far_as_they_are_known():
    found = entries([1, 2, walks.LARGE, 3, walks.LARGE + 5, 4])
    survey = Survey(lambda: iter(found))
    survey.step(100)
    survey.step(1)
    assert survey.finished
    assert (survey.files, survey.bytes) == (6, sum(e.size for e in found))
    order = [e.relative for e in survey]
    assert set(order[:2]) == {b"002", b"004"}
    assert order[2:] == [b"000", b"001", b"003", b"005"]


def test_a_survey_that_knows_nothing_yet_gives_everything_once():
    found = entries([1, walks.LARGE, 2, walks.LARGE, 3] * 3)
    survey = Survey(lambda: iter(found))
    order = []
    for entry in survey:
        order.append(entry.relative)
        survey.step(2)
    assert sorted(order) == [e.relative for e in found]


def test_a_survey_counts_its_shard():
    found = entries([100] * 300)
    surveys = [Survey(lambda: iter(found), (k, 3)) for k in (1, 2, 3)]
    for number, survey in enumerate(surveys, 1):
        survey.step(1000)
        assert survey.files == sum(in_shard(e.relative, (number, 3)) for e in found)
    assert sum(s.bytes for s in surveys) == 30_000
