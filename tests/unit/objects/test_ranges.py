"""Objects far away cost few requests, whoever serves them, and sources that err are caught."""

import io
import struct

import object_files as make
import pytest

import dicomcrypt as dc
from dicomcrypt.objects.ranges import END, MAX_HEAD, CachedEnds

IDENTITY = dc.Identity.generate()
ROW = make.noise(1_000_000)


def table(count, size):
    return b"".join(struct.pack("<I", n * (size + 8)) for n in range(count))


def compressed(count, size):
    return make.dicom(
        512, 512, make.encapsulated([make.noise(size, n) for n in range(count)],
                                    table(count, size)), frames=count, syntax=make.JPEG,
    )  # fmt: skip


def tags_of(size):
    return make.element(0x00091001, b"OB", make.noise(size))


FILES = {
    "native frames": (make.dicom(1000, 500, ROW, frames=2), 3),
    "compressed frames": (compressed(1500, 500), 3),
    "compressed frames with a long index": (compressed(5000, 500), 4),
    "tags longer than what is read of them": (
        make.dicom(1000, 500, ROW, frames=2, before=tags_of(600_000)), 3),
    "tags too long to read them along": (
        make.dicom(1000, 500, ROW, frames=2, before=tags_of(MAX_HEAD)), 4),
    "small": (make.dicom(100, 100, make.noise(10_000)), 1),
}  # fmt: skip
every_file = pytest.mark.parametrize(("data", "requests"), FILES.values(), ids=FILES)


class Remote(make.CountingSource):
    """An object somewhere else, where every request is counted and kept to its bounds."""

    requests = 0

    def read_range(self, offset, length):
        assert length > 0
        self.requests += 1
        return super().read_range(offset, length)


@every_file
def test_a_frame_costs_two_or_three_requests_and_the_next_one_more(data, requests):
    remote = Remote(dc.encrypt(data, [IDENTITY.recipient]))
    with dc.open(remote, [IDENTITY]) as obj:
        middle = obj.frame_count // 2
        frame = obj.frame_bytes(middle)
        assert remote.requests == requests
        assert remote.bytes_read < 2 * END + MAX_HEAD + 4_500_000
        obj.frame_bytes(0)
        assert remote.requests <= requests + 1
    with dc.open(dc.encrypt(data, [IDENTITY.recipient]), [IDENTITY]) as obj:
        assert obj.frame_bytes(middle) == frame


def test_the_data_set_costs_no_request_beyond_the_two_of_opening():
    remote = Remote(dc.encrypt(FILES["native frames"][0], [IDENTITY.recipient]))
    assert dc.open(remote, [IDENTITY]).dataset.PatientName == "Nobody^Really"
    assert remote.requests == 2


@pytest.mark.parametrize("size", [0, 1, 95, 96, END, 2 * END - 1, 2 * END, 2 * END + 1, 5 * END])
def test_ranges_are_slices_and_nothing_outside_is_given(size):
    data = make.noise(size)
    source = CachedEnds(Remote(data))
    assert source.size() == size
    places = {0, 1, END - 1, END, size // 2, size - END, size - 1, size}
    places = sorted(places & {*range(size + 1)})
    for start in places:
        for end in places[places.index(start) :]:
            assert bytes(source.read_range(start, end - start)) == data[start:end]
    for offset, length in ((-1, 1), (0, size + 1), (size, 1), (size + 1, 0), (0, -1)):
        with pytest.raises(dc.DamagedError):
            source.read_range(offset, length)


class Short(Remote):
    def read_range(self, offset, length):
        return super().read_range(offset, length)[:-1]


class Larger(Remote):
    def size(self):
        return super().size() + END

    def read_range(self, offset, length):
        return self._blob[offset : offset + length]


@pytest.mark.parametrize("kind", [Short, Larger])
@pytest.mark.parametrize("name", ["native frames", "small"])
def test_a_source_that_gives_too_little_is_told_from_a_damaged_object_by_nobody(kind, name):
    source = kind(dc.encrypt(FILES[name][0], [IDENTITY.recipient]))
    with pytest.raises(dc.DamagedError):
        dc.open(source, [IDENTITY]).frame_bytes(0)


def test_an_error_of_the_source_reaches_the_caller():
    class Broken(Remote):
        def read_range(self, offset, length):
            raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        dc.open(Broken(bytes(1000)), [IDENTITY])


def read_all(source):
    obj = dc.open(source, [IDENTITY])
    obj.container.closing_index()
    return obj.dataset, list(obj.frames)


@pytest.mark.parametrize("place", [5, 100, 0.3, 0.6, -200, -90])
def test_a_changed_byte_is_noticed_through_ranges_too(place):
    blob = bytearray(dc.encrypt(FILES["native frames"][0], [IDENTITY.recipient]))
    blob[int(place * len(blob)) if isinstance(place, float) else place] ^= 1
    with pytest.raises(dc.DamagedError):
        read_all(Remote(bytes(blob)))


class NotOnDisk(io.BytesIO):
    """A file object of a library for remote files: it counts its reads."""

    reads = 0

    def read(self, size=-1):
        self.reads += 1
        return super().read(size)


def test_a_file_object_without_a_descriptor_counts_as_far_away():
    file = NotOnDisk(dc.encrypt(FILES["native frames"][0], [IDENTITY.recipient]))
    dc.open(file, [IDENTITY]).frame_bytes(1)
    assert file.reads == 3


# ---- obstore ----------------------------------------------------------------


@pytest.fixture(params=["memory", "local"])
def store(request, tmp_path, need_module):
    need_module("obstore", "obstore")
    from obstore.store import LocalStore, MemoryStore

    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path)


@pytest.fixture
def requests_made(monkeypatch):
    """The requests that go through obstore, in their order."""
    import obstore

    made = []

    def count(name, call):
        def counted(*arguments, **options):
            made.append(name)
            return call(*arguments, **options)

        monkeypatch.setattr(obstore, name, counted)

    for name in ("get", "get_range", "head"):
        count(name, getattr(obstore, name))
    return made


@every_file
def test_a_frame_of_an_object_in_a_store_costs_two_or_three_requests(
    store, requests_made, data, requests
):
    import obstore

    obstore.put(store, "a/ct.dcmx", dc.encrypt(data, [IDENTITY.recipient]))
    with dc.open(dc.ObstoreSource(store, "a/ct.dcmx"), [IDENTITY]) as obj:
        frame = obj.frame_bytes(obj.frame_count // 2)
    assert requests_made == ["get"] + ["get_range"] * (requests - 1)
    with dc.open(dc.encrypt(data, [IDENTITY.recipient]), [IDENTITY]) as obj:
        assert obj.frame_bytes(obj.frame_count // 2) == frame


def test_a_store_without_ranges_from_the_end_is_asked_for_the_size(
    store, requests_made, monkeypatch
):
    import obstore

    def refuse(*_, **__):
        raise obstore.exceptions.NotSupportedError("suffix")

    obstore.put(store, "o", dc.encrypt(FILES["native frames"][0], [IDENTITY.recipient]))
    monkeypatch.setattr(obstore, "get", refuse)
    with dc.open(dc.ObstoreSource(store, "o"), [IDENTITY]) as obj:
        assert len(obj.frame_bytes(1)) == 500_000
    assert requests_made == ["head", "get_range", "get_range", "get_range"]


@pytest.mark.parametrize("blob", [b"", b"x", make.noise(3 * END)])
def test_what_is_no_object_in_a_store_is_refused(store, blob):
    import obstore

    obstore.put(store, "o", blob)
    with pytest.raises(dc.DamagedError):
        dc.open(dc.ObstoreSource(store, "o"), [IDENTITY])
    with pytest.raises(FileNotFoundError):
        dc.ObstoreSource(store, "missing")


@pytest.mark.parametrize("size", [0, 100_000, 25_000_000])
def test_an_object_is_written_into_a_store_piece_by_piece_or_not_at_all(store, size):
    import obstore

    data = make.noise(size)

    def write(name, *, fail):
        with (
            obstore.open_writer(store, name) as sink,
            dc.ObjectWriter(sink, [IDENTITY.recipient]) as writer,
        ):
            for at in range(0, size, 300_000):
                writer.write(data[at : at + 300_000])
            if fail:
                raise InterruptedError

    write("o", fail=False)
    assert dc.decrypt(memoryview(obstore.get(store, "o").bytes()), [IDENTITY]) == data
    with pytest.raises(InterruptedError):
        write("broken", fail=True)
    assert [entry["path"] for entry in obstore.list(store).collect()] == ["o"]


def test_without_obstore_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(dc.MissingExtraError, match=r"dicomcrypt\[obstore\]"):
        dc.ObstoreSource(None, "o")
