"""Who may read the tags, the pixel data, or all: nobody gets more than that."""

import itertools

import object_files as make
import pytest

import dicomcrypt as dc

ALL, TAGS, PIXELS, NOBODY = (dc.X25519Identity.generate() for _ in range(4))
SCOPED = {"tags_to": [TAGS.recipient], "pixels_to": [PIXELS.recipient]}
VALUE = make.noise(64 * 65 * 3)
DATA = make.dicom(64, 65, VALUE, frames=3)
AT = DATA.index(VALUE)
PARTS = {"all": DATA, "tags": DATA[:AT] + DATA[AT + len(VALUE) :], "pixels": VALUE}
ORDERS = list(itertools.permutations([TAGS, PIXELS, NOBODY]))
REACH = {"all": {ALL}, "tags": {ALL, TAGS}, "pixels": {ALL, PIXELS}}


@pytest.fixture(params=[True, False], ids=["batch", "alone"])
def blob(request):
    return dc.Batch([ALL.recipient], batch=request.param, **SCOPED).encrypt(DATA)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("who", [ALL, TAGS, PIXELS, NOBODY], ids=["all", "tags", "pixels", "-"])
def test_a_part_is_given_to_those_whose_scope_holds_it(blob, part, who, tmp_path):
    source, target = tmp_path / "object.dcmx", tmp_path / "plain"
    source.write_bytes(blob)
    if who in REACH[part]:
        assert dc.decrypt(blob, [who], part=part) == PARTS[part]
        assert dc.decrypt_file(source, target, [who], part=part) == len(PARTS[part])
        assert target.read_bytes() == PARTS[part]
        return
    with pytest.raises(dc.NoIdentityError):
        dc.decrypt(blob, [who], part=part)
    with pytest.raises(dc.NoIdentityError):
        dc.decrypt_file(source, target, [who], part=part)
    assert [p.name for p in tmp_path.iterdir()] == ["object.dcmx"]


@pytest.mark.parametrize("order", ORDERS, ids=range(6))
def test_two_scopes_together_are_not_the_whole_but_both_parts(blob, order):
    for part in ("tags", "pixels"):
        assert dc.decrypt(blob, order, part=part) == PARTS[part]
    assert dc.decrypt(blob, order) == DATA  # TAGS, PIXELS and TAIL are all there is


def test_an_opened_object_reaches_as_far_as_the_scope(blob):
    tags = dc.open(blob, [TAGS])
    assert tags.dataset.PatientName == "Nobody^Really"
    assert tags.tags == DATA[:AT]
    for ask in (lambda: tags.frames[0], lambda: tags.geometry, lambda: tags.frame_array(0),
                lambda: tags.read(2, 0, 1)):  # fmt: skip
        with pytest.raises(dc.NoIdentityError):
            ask()
    pixels = dc.open(blob, [PIXELS])
    assert b"".join(pixels.frames) == VALUE
    assert pixels.frame_array(1).shape == (64, 65)
    for ask in (lambda: pixels.tags, lambda: pixels.dataset, lambda: pixels.read(3, 0, 1)):
        with pytest.raises(dc.NoIdentityError):
            ask()


def test_an_unknown_part_is_refused(blob, tmp_path):
    with pytest.raises(dc.UsageError):
        dc.decrypt(blob, [ALL], part="voxels")
    (tmp_path / "object").write_bytes(blob)
    with pytest.raises(dc.UsageError):
        dc.decrypt_file(tmp_path / "object", tmp_path / "plain", [ALL], part="voxels")


@pytest.mark.parametrize("data", [b"", b"no DICOM", DATA[:200]], ids=["empty", "text", "cut"])
def test_scopes_are_refused_for_what_is_not_dicom_unless_the_caller_insists(data):
    for scopes in (SCOPED, {"tags_to": [TAGS.recipient]}, {"pixels_to": [PIXELS.recipient]}):
        with pytest.raises(dc.UsageError):
            dc.encrypt(data, [ALL.recipient], **scopes)
        blob = dc.encrypt(data, [ALL.recipient], force_scopes=True, **scopes)
        assert dc.decrypt(blob, [ALL]) == data
        with pytest.raises(dc.NoIdentityError):
            dc.decrypt(blob, [TAGS, PIXELS])


def test_scopes_are_refused_too_for_a_file_that_breaks_behind_megabytes_of_tags():
    long = make.dicom(4, 4, b"", before=make.element(0x00091010, b"OB", make.noise(5 << 20)))
    broken = long[: long.index(b"MONOCHROME2") + 3]
    with pytest.raises(dc.UsageError):
        dc.encrypt(broken, [ALL.recipient], **SCOPED)


def test_the_parts_of_a_file_without_pixel_data_are_the_file_and_nothing():
    data = DATA[: DATA.index(b"\x28\x00\x02\x00")]
    blob = dc.encrypt(data, [ALL.recipient], **SCOPED)
    assert dc.decrypt(blob, [TAGS], part="tags") == data
    assert dc.decrypt(blob, [PIXELS], part="pixels") == b""


@pytest.mark.parametrize("scopes", [{"tags_to": [TAGS.recipient]}, SCOPED], ids=["tags", "both"])
def test_an_object_may_be_for_scopes_alone(scopes):
    blob = dc.encrypt(DATA, **scopes)
    assert dc.decrypt(blob, [TAGS], part="tags") == PARTS["tags"]
    with pytest.raises(dc.NoIdentityError):
        dc.decrypt(blob, [ALL])
