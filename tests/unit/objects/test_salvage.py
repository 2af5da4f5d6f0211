"""Salvage gives back what authenticates: outside the damage every byte, inside it zeros."""

import random

import object_files as make
import pytest
from pydicom.data import get_testdata_file

import dicomcrypt as dc
from dicomcrypt.container.layout import PIXELS, PREFIX_SIZE, TAGS
from dicomcrypt.container.streams import CHUNK, HEADER, SEALED_CHUNK

IDENTITY, STRANGER = dc.X25519Identity.generate(), dc.X25519Identity.generate()
TILE = 16384
FILES = {
    "frames": make.dicom(200, 300, make.noise(200 * 300 * 5), frames=5),
    "encapsulated": make.dicom(
        10, 10, make.encapsulated([make.noise(90_001, n) for n in range(4)]), frames=4,
        syntax=make.RLE,
    ),
    "opaque": make.noise(200_000),
    "large tags": make.dicom(40, 50, make.noise(2000),
                             before=make.element(0x00091010, b"OB", make.noise(5 << 20, 5))),
}  # fmt: skip
PATHS = ["CT_small.dcm", "emri_small.dcm", "emri_small_big_endian.dcm", "liver.dcm"]


def file_of(name):
    if name in FILES:
        return FILES[name]
    with open(get_testdata_file(name), "rb") as file:
        return file.read()


@pytest.fixture
def salvage(tmp_path):
    def run(blob, identities=(IDENTITY,)):
        path, target = tmp_path / "object.dcmx", tmp_path / "salvaged"
        path.write_bytes(blob)
        target.unlink(missing_ok=True)
        report = dc.salvage(path, target, identities)
        return report, target.read_bytes()

    return run


def layout(blob):
    return make.unlocked(blob, IDENTITY).streams


def reach(blob, sid, holes):
    """Payload offsets that damage to [low, high) may touch: the tiles of the unit's blocks."""
    from dicomcrypt.ciphers.reference import unit_blocks
    from dicomcrypt.objects.decoder import stream_runs

    touched = set()
    for low, high in holes:
        touched |= set(range(low, high))
    for run in stream_runs(make.unlocked(blob, IDENTITY), sid)[0]:
        size = run[2] * run[3] if len(run) == 5 else 4 << 20
        for start in range(run[0], run[0] + run[1], size):
            length = min(size, run[0] + run[1] - start)
            if not any(low < start + length and high > start for low, high in holes):
                continue
            for places in unit_blocks(length, *run[2:]):
                for tile in range(0, len(places), TILE):
                    offsets = (places[tile : tile + TILE] + start).tolist()
                    if any(low <= o < high for low, high in holes for o in offsets):
                        touched |= set(offsets)
    return touched


@pytest.mark.parametrize("name", [*FILES, *PATHS])
def test_salvaging_a_sound_object_gives_the_file_and_reports_nothing(salvage, name):
    data = file_of(name)
    report, plain = salvage(dc.encrypt(data, [IDENTITY.recipient]))
    assert plain == data
    assert report["lost"] == []
    assert report["bytes"] == len(data)
    assert report["lost_bytes"] == 0
    assert not {"header", "trailer", "index"} & set(report)


@pytest.mark.parametrize("method", ["randomized", "multilevel", "none"])
@pytest.mark.parametrize("name", ["frames", "encapsulated", "opaque", *PATHS])
def test_outside_the_damaged_tiles_every_byte_is_right_inside_right_or_zero(salvage, name, method):
    data = file_of(name)
    blob = bytearray(dc.encrypt(data, [IDENTITY.recipient], method=method))
    sound, streams = bytes(blob), layout(blob)
    sid = PIXELS if PIXELS in streams else 4
    offset, _ = streams[sid]
    chunks = (make.unlocked(blob, IDENTITY).payload_size(sid) - 1) // CHUNK  # not the index's
    hit = sorted(random.Random(name).sample(range(max(chunks, 1)), min(2, max(chunks, 1))))
    for number in hit:
        blob[offset + HEADER + number * SEALED_CHUNK + 77] ^= 0x10
    report, plain = salvage(blob)
    assert len(plain) == len(data)
    assert report["lost_bytes"] > 0
    start = make.unlocked(sound, IDENTITY).payload_size(TAGS) if sid == PIXELS else 0
    size = make.unlocked(sound, IDENTITY).payload_size(sid)
    holes = [(n * CHUNK, min((n + 1) * CHUNK, size)) for n in hit]
    touched = reach(sound, sid, holes)
    wrong = [n - start for n in range(len(data)) if plain[n] != data[n]]
    assert set(wrong) <= touched
    assert all(plain[start + n] == 0 for n in wrong)
    lost = {n for e in report["lost"] for n in range(e["start"], e["end"])}
    assert set().union(*(range(*hole) for hole in holes)) <= lost


@pytest.mark.parametrize("name", ["frames", "large tags"])
def test_a_damaged_chunk_of_the_tags_spares_the_pixels(salvage, name):
    data = file_of(name)
    blob = bytearray(dc.encrypt(data, [IDENTITY.recipient]))
    blob[layout(blob)[TAGS][0] + HEADER] ^= 1
    sound = len(data) - 250_000 if name == "frames" else len(data) - 1500
    report, plain = salvage(blob)
    assert plain[sound:] == data[sound:]
    assert {e["stream"] for e in report["lost"]} == {"tags"}


@pytest.mark.parametrize("at", [72 + 4, 72 + 12 + 12 + 40 + 100, -96])
def test_a_damaged_header_is_passed_over_if_a_stanza_still_opens(salvage, at):
    data = FILES["frames"]
    blob = bytearray(dc.encrypt(data, [IDENTITY.recipient, STRANGER.recipient]))
    capacity = int.from_bytes(blob[64:68], "little")
    at = PREFIX_SIZE + capacity - 40 if at < 0 else at
    blob[at] ^= 1
    with pytest.raises(dc.DamagedError):
        dc.decrypt(blob, [IDENTITY])
    if at == PREFIX_SIZE + 4:  # the slot's own structure: nothing of it can be told
        with pytest.raises(dc.DamagedError):
            salvage(blob)
        return
    report, plain = salvage(blob)
    assert plain == data
    assert report["header"]


@pytest.mark.parametrize("sid", [2, 3, 4])
def test_a_lost_index_loses_its_stream_and_no_other(salvage, sid):
    data = FILES["opaque" if sid == 4 else "frames"]
    blob = bytearray(dc.encrypt(data, [IDENTITY.recipient]))
    offset, length = layout(blob)[sid]
    blob[offset + length - 1] ^= 1
    report, plain = salvage(blob)
    names = {2: "pixels", 3: "tail", 4: "opaque"}
    assert set(report["index"]) == {names[sid]}
    if sid == 2:  # as much as the tags before it and the tail behind it
        at = data.index(make.noise(100))
        assert plain[:at] == data[:at]
        assert plain.endswith(data[-18:])
    assert not set(plain) - set(data)


def test_the_file_has_the_size_that_the_report_tells_though_all_of_it_is_lost(salvage):
    blob = bytearray(dc.encrypt(bytes(9 << 20), [IDENTITY.recipient]))
    blob[-97] ^= 1
    report, plain = salvage(blob)
    assert len(plain) == report["bytes"] >= 9 << 20
    assert not plain.strip(b"\0")


@pytest.mark.parametrize("cut", [1, 96, 500, 100_000])
def test_without_its_trailer_nothing_is_salvaged_and_no_file_appears(salvage, tmp_path, cut):
    blob = dc.encrypt(FILES["frames"], [IDENTITY.recipient])
    with pytest.raises(dc.DamagedError):
        salvage(blob[:-cut])
    assert [p.name for p in tmp_path.iterdir()] == ["object.dcmx"]


def test_a_stranger_salvages_nothing(salvage, tmp_path):
    blob = bytearray(dc.encrypt(FILES["frames"], [IDENTITY.recipient]))
    blob[-5000] ^= 1
    with pytest.raises(dc.NoIdentityError):
        salvage(blob, [STRANGER])
    assert [p.name for p in tmp_path.iterdir()] == ["object.dcmx"]


def test_salvage_with_a_scope_gives_that_scope_and_says_what_it_left(salvage):
    data = FILES["frames"]
    report, plain = salvage(dc.encrypt(data, [STRANGER.recipient], tags_to=[IDENTITY.recipient]))
    at = data.index(make.noise(100))
    assert plain == data[:at] + data[at + 300_000 :]
    assert {"stream": "pixels", "state": "other scope"} in report["streams"]


def test_salvage_keeps_an_existing_file_unless_forced(salvage, tmp_path):
    blob = dc.encrypt(b"x", [IDENTITY.recipient])
    (tmp_path / "object").write_bytes(blob)
    (tmp_path / "there").write_bytes(b"mine")
    with pytest.raises(dc.OutputExistsError):
        dc.salvage(tmp_path / "object", tmp_path / "there", [IDENTITY])
    assert (tmp_path / "there").read_bytes() == b"mine"
    dc.salvage(tmp_path / "object", tmp_path / "there", [IDENTITY], force=True)
    assert (tmp_path / "there").read_bytes() == b"x"
