"""What is told of an object without a key, and with one."""

import os

import object_files as make
import pytest

import dicomcrypt as dc

ALICE, BOB = dc.Identity.generate(), dc.Identity.generate()
SMALL = make.small_files()


@pytest.fixture
def path(tmp_path):
    def write(data, **options):
        source, target = tmp_path / "Nobody^Really.dcm", tmp_path / "object.dcmx"
        source.write_bytes(data)
        os.utime(source, ns=(1, 1_500_000_000_123_456_789))
        dc.encrypt_file(source, target, [ALICE.recipient], force=True, **options)
        return target

    return write


@pytest.mark.parametrize("name", SMALL)
def test_without_a_key_only_what_lies_open_is_told(path, name):
    target = path(SMALL[name], tags_to=[BOB.recipient], force_scopes=True)
    told = dc.inspect(target)
    assert "opened" not in told
    assert [(r["scope"], r["hint"]) for r in told["recipients"]] == [
        ("full", ALICE.recipient.hint.hex()), ("tags", BOB.recipient.hint.hex())
    ]  # fmt: skip
    assert told["size"] == target.stat().st_size
    assert "Nobody" not in repr(told)


def test_with_a_key_everything_is_told(path):
    data = SMALL["many frames"]
    told = dc.inspect(path(data), [ALICE])["opened"]
    assert told["scopes"] == ["full", "tags", "pixels"]
    assert told["original_size"] == len(data) == sum(told["payload"].values())
    assert told["name"] == "Nobody^Really.dcm"
    assert told["mtime_ns"] == 1_500_000_000_123_456_789
    assert told["image"]["frames"] == told["image"]["frames_readable_alone"] == 40
    pixels = told["methods"]["pixels"]
    assert pixels["units"] == 40
    assert sum(pixels["blocks"].values()) == 160
    assert len(pixels["map"]) == 40


@pytest.mark.parametrize(
    ("part", "told", "hidden"), [("tags", "attributes", "image"), ("pixels", "image", "attributes")]
)
def test_with_a_scope_s_key_that_scope_is_told(path, part, told, hidden):
    target = path(SMALL["many frames"], **{f"{part}_to": [BOB.recipient]})
    opened = dc.inspect(target, [BOB])["opened"]
    assert opened["scopes"] == [part]
    assert told in opened
    assert hidden not in opened
    assert ("name" in opened) is (part == "tags")


def test_a_stranger_is_told_that_no_identity_fits(path):
    with pytest.raises(dc.NoIdentityError):
        dc.inspect(path(b"x"), [BOB])


@pytest.mark.parametrize("blob", [b"", b"\x89DCMX", b"not an object" * 20])
def test_what_is_no_object_is_damage(tmp_path, blob):
    (tmp_path / "file").write_bytes(blob)
    with pytest.raises(dc.DamagedError):
        dc.inspect(tmp_path / "file")
