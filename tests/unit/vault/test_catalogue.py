"""The catalogue: what is added is found, what is erased is not, and crashes lose nothing."""

from __future__ import annotations

import copy
import os
import stat

import pytest
from vault_rows import patient_rows
from vault_stand_ins import Cut, MemoryStore, PlainKeys

from dicomcrypt.errors import DamagedError, MissingBlobError
from dicomcrypt.vault import catalogue as module
from dicomcrypt.vault import loading
from dicomcrypt.vault.cache import read_cache
from dicomcrypt.vault.catalogue import Catalogue
from dicomcrypt.vault.rows import Row, identity_row

IDS = [bytes([n]) * 16 for n in range(40)]


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def keys():
    return PlainKeys()


def content(catalogue, ids=None):
    return {(record, row.encode()) for record, row in catalogue.rows(ids)}


def wanted(*numbers, count=6):
    return {(IDS[n], r.encode()) for n in numbers for r in patient_rows(n, count)
            if not r.is_identity}  # fmt: skip


def rows(*numbers, count=6):
    return {IDS[n]: patient_rows(n, count) for n in numbers}


def fresh(store, keys, cache=None):
    return content(Catalogue(store, keys, cache).open())


def test_what_is_added_is_found(store, keys):
    with Catalogue(store, keys) as catalogue:
        assert content(catalogue) == set()
        catalogue.append(rows(0, 1))
        catalogue.append(rows(2))
        catalogue.append({})
        assert content(catalogue) == wanted(0, 1, 2) == fresh(store, keys)
        assert content(catalogue, [IDS[1]]) == wanted(1)
        one = patient_rows(1, 6)[3]
        assert catalogue.object(one.object_id) == [(IDS[1], one)]
        assert catalogue.same_instance(one.SOPInstanceUID) == [(IDS[1], one)]
        assert catalogue.record_of("HOSPITAL A", " P0000001 ") == [IDS[1]]
        assert catalogue.record_of("HOSPITAL B", "P0000001") == []
        assert catalogue.identities(IDS[1]) == [identity_row("HOSPITAL A", "P0000001")]
        assert catalogue.records() == IDS[:3]
        stats = catalogue.stats()
        assert (stats["objects"], stats["patients"], stats["segments"]) == (18, 3, 2)


def test_records_of_studies_and_jobs_and_merged_ones(store, keys):
    with Catalogue(store, keys) as catalogue:
        catalogue.append({IDS[0]: [identity_row(study="1.2")], IDS[1]: [identity_row(job=b"j")],
                          IDS[2]: [identity_row(None, "7")], IDS[3]: [identity_row("A", "8")]})
        assert catalogue.record_of(None, None, study="1.2") == [IDS[0]]
        assert catalogue.record_of("", "", job=b"j") == [IDS[1]]
        assert catalogue.record_of(None, "7") == [IDS[2]]
        catalogue.append({IDS[2]: [identity_row("A", "8")], IDS[3]: [identity_row(None, "7")]})
        assert catalogue.record_of(None, "7") == [IDS[2], IDS[3]]
        assert catalogue.record_of("A", "8") == [IDS[3], IDS[2]]
    with Catalogue(store, keys) as again:
        again.compact(full=True)
        assert {*again.record_of("A", "8")} == {IDS[2], IDS[3]}
        assert again.listing("patient") is not None


def test_a_later_row_takes_the_place_of_an_earlier_one_and_removes_it(store, keys):
    first, second, third = patient_rows(0, 3)[1:]
    newer = copy.copy(first)
    newer.generation = 9
    left = {(IDS[0], newer.encode()), (IDS[0], third.encode())}
    with Catalogue(store, keys) as catalogue:
        catalogue.append({IDS[0]: [first, second, third]})
        catalogue.append({IDS[0]: [newer, second.removed()], IDS[1]: [third.removed()]})
        assert content(catalogue) == left
        assert fresh(store, keys) == left
        catalogue.compact(full=True)
        assert content(catalogue) == left
        assert fresh(store, keys) == left
        assert catalogue.stats()["segments"] == 1
        catalogue.append({IDS[0]: [second]})
        assert fresh(store, keys) == left | {(IDS[0], second.encode())}


def test_one_object_may_stand_for_several_paths(store, keys):
    one = patient_rows(0, 1)[1]
    other = copy.copy(one)
    other.path = b"elsewhere"
    with Catalogue(store, keys) as catalogue:
        catalogue.append({IDS[0]: [one, other]})
        assert len(catalogue.object(one.object_id)) == 2
        catalogue.append({IDS[0]: [one.removed()]})
        assert catalogue.object(one.object_id) == [(IDS[0], other)]
        assert fresh(store, keys) == {(IDS[0], other.encode())}


def test_many_small_appends_are_compacted_seldom_and_lose_nothing(store, keys, monkeypatch):
    monkeypatch.setattr(module, "MOST_SEGMENTS", 4)
    with Catalogue(store, keys) as catalogue:
        for n in range(30):
            catalogue.append(rows(n % 7, n, count=6))
            assert len(catalogue.head.segments) <= 5
        assert content(catalogue) == wanted(*range(30)) == fresh(store, keys)
    assert len([n for n in store.blobs if n.endswith(".seg")]) <= 5


def test_erased_records_are_gone_from_memory_segments_and_cache(store, keys, tmp_path):
    cache = str(tmp_path / "vault.cache")
    with Catalogue(store, keys, cache) as catalogue:
        catalogue.append(rows(0, 1, 2))
        catalogue.append(rows(3))
        catalogue.save_cache()
        before = dict(store.blobs)
        old = (tmp_path / "vault.cache").read_bytes()
        keys.erase(IDS[1])
        catalogue.forget([IDS[1]])
        assert not os.path.exists(cache)
        assert content(catalogue) == wanted(0, 2, 3)
        assert b"P0000001" not in catalogue._database.image()
        name = patient_rows(1, 1)[1].PatientName.encode()
        assert name not in catalogue._database.image()
        assert fresh(store, keys) == wanted(0, 2, 3)
        untouched = catalogue.head.segments[1]
        assert catalogue.compact()
        assert catalogue.head.segments[1] == untouched
        assert not catalogue.compact()
        assert fresh(store, keys) == wanted(0, 2, 3)
        (tmp_path / "vault.cache").write_bytes(old)
        assert read_cache(cache, keys) is None
    store.blobs = before  # a backup
    keys.state = 2
    assert fresh(store, keys) == wanted(0, 2, 3)


def test_rows_come_back_with_their_key(store, keys, tmp_path):
    cache = str(tmp_path / "c")
    with Catalogue(store, keys) as catalogue:
        catalogue.append(rows(0, 1))
    keys.gone = {IDS[1]}
    with Catalogue(store, keys, cache) as catalogue:
        assert content(catalogue) == wanted(0)
        catalogue.save_cache()
    keys.gone = set()
    assert fresh(store, keys, cache) == wanted(0, 1)


def test_the_cache_is_private_sealed_and_followed(store, keys, tmp_path, monkeypatch):
    cache = str(tmp_path / "c")
    catalogue = Catalogue(store, keys, cache).open()
    catalogue.append(rows(0, 1))
    assert catalogue.save_cache()
    assert stat.S_IMODE(os.stat(cache).st_mode) == 0o600
    assert b"P000000" not in (tmp_path / "c").read_bytes()
    assert os.listdir(tmp_path) == ["c"]
    catalogue.append(rows(2))
    taken = []
    real = Catalogue._segment
    monkeypatch.setattr(Catalogue, "_segment", lambda s, e: taken.append(e) or real(s, e))
    assert fresh(store, keys, cache) == wanted(0, 1, 2)
    assert taken == [catalogue.head.segments[1]]
    catalogue.compact(full=True)
    assert fresh(store, keys, cache) == wanted(0, 1, 2)


def test_a_damaged_or_foreign_cache_is_ignored(store, keys, tmp_path):
    cache = tmp_path / "c"
    with Catalogue(store, keys, str(cache)) as catalogue:
        catalogue.append(rows(0))
        catalogue.save_cache()
    data = cache.read_bytes()
    for at in (0, 9, 30, 60, 89, 96, 120, len(data) // 2, len(data) - 1):
        forged = bytearray(data)
        forged[at] ^= 4
        cache.write_bytes(forged)
        assert read_cache(str(cache), keys) is None
        assert fresh(store, keys, str(cache)) == wanted(0)
    for forged in (b"", data[:50], data[:-1], data + b"x", data[:-(1 << 16)]):
        cache.write_bytes(forged)
        assert read_cache(str(cache), keys) is None
    cache.write_bytes(data)
    assert read_cache(str(cache), keys) is not None
    other = PlainKeys()
    assert read_cache(str(cache), other) is None
    other.vault_id = keys.vault_id
    assert read_cache(str(cache), other) is None


def test_several_processes_read_what_one_reads(store, keys, monkeypatch):
    with Catalogue(store, keys) as catalogue:
        for n in range(6):
            catalogue.append(rows(*range(n, 8), count=6))
        catalogue.append({IDS[2]: [patient_rows(2, 6)[4].removed()]})
    keys.gone = {IDS[5]}
    one = fresh(store, keys)
    monkeypatch.setattr(loading, "_ROWS_EACH", 60)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    with Catalogue(store, keys) as catalogue:
        assert content(catalogue) == one
        assert len(one) == 7 * 6 - 1
        catalogue.append(rows(9, 10))
        assert content(catalogue) == one | wanted(9, 10) == fresh(store, keys)
        assert catalogue.record_of("HOSPITAL A", "P0000007") == [IDS[7]]
        name = patient_rows(7, 1)[1].PatientName
        assert {r.PatientID for _, r in catalogue.rows(query={"PatientName": name})} == {"P0000007"}
        assert [r["objects"] for r in catalogue.listing("patient")].count(6) == 8
    name = module.segment_name(catalogue.head.segments[0].segment_id)
    store.blobs[name] = store.blobs[name][:-1] + b"x"
    with pytest.raises(DamagedError):
        fresh(store, keys)


def test_a_segment_that_is_gone_changed_or_of_another_vault_is_refused(store, keys):
    with Catalogue(store, keys) as catalogue:
        catalogue.append(rows(0))
        catalogue.append(rows(1))
    first, second = (module.segment_name(e.segment_id) for e in catalogue.head.segments)
    whole = dict(store.blobs)
    store.blobs[first], store.blobs[second] = whole[second], whole[first]
    with pytest.raises(DamagedError):
        fresh(store, keys)
    store.blobs = {n: b for n, b in whole.items() if n != second}
    with pytest.raises(MissingBlobError):
        fresh(store, keys)
    for at in range(0, len(whole[first]), 11):
        data = bytearray(whole[first])
        data[at] ^= 1
        store.blobs = {**whole, first: bytes(data)}
        with pytest.raises(DamagedError):
            fresh(store, keys)


def test_readers_follow_writers_and_compaction(store, keys):
    writer, reader = Catalogue(store, keys).open(), Catalogue(store, keys).open()
    writer.append(rows(0))
    assert reader.refresh()
    assert not reader.refresh()
    writer.append(rows(1))
    writer.compact(full=True)
    assert reader.refresh()
    assert content(reader) == wanted(0, 1)
    reader.append(rows(2))  # it has the lease now
    writer.append(rows(3))
    assert content(writer) == wanted(0, 1, 2, 3) == fresh(store, keys)


def test_a_segment_that_goes_while_it_is_read_means_read_the_head_again(store, keys, monkeypatch):
    writer = Catalogue(store, keys).open()
    writer.append(rows(0))
    writer.append(rows(1))
    real, once = Catalogue._segment, []

    def segment(self, entry):
        if not once:
            once.append(1)
            writer.compact(full=True)
        return real(self, entry)

    reader = Catalogue(store, keys)
    monkeypatch.setattr(Catalogue, "_segment", segment)
    assert content(reader.open()) == wanted(0, 1)


def steps(action, store, keys):
    """Run an action again and again, cut after 0, 1, 2... changes; yield what each leaves."""
    blobs, state = dict(store.blobs), (keys.state, keys.head_generation)
    keys._store = store
    for number in range(1000):
        store.blobs, (keys.state, keys.head_generation) = dict(blobs), state
        store.left = number
        catalogue = None
        try:
            catalogue = Catalogue(store, keys).open()
            action(catalogue)
        except Cut:
            store.left = None
            yield number
            continue
        store.left = None
        return
    raise AssertionError("never done")


@pytest.mark.parametrize("full", [True, False])
def test_a_crash_between_any_two_steps_of_compacting_loses_nothing(store, keys, full):
    with Catalogue(store, keys) as catalogue:
        for n in range(5):
            catalogue.append(rows(n, 10, 11))
    if not full:
        keys.gone = {IDS[10]}
    left = fresh(store, keys)
    count = 0
    for _ in steps(lambda c: c.compact(full=full), store, keys):
        count += 1
        assert fresh(store, keys) == left
        with Catalogue(store, keys) as again:
            again.append(rows(20))
            again.compact(full=full)
        assert fresh(store, keys) == left | wanted(20)
        assert len([n for n in store.blobs if n.endswith(".seg")]) == len(again.head.segments)
    assert count >= 4
    assert fresh(store, keys) == left


def test_a_crash_between_any_two_steps_of_appending_adds_all_or_nothing(store, keys, monkeypatch):
    monkeypatch.setattr(module, "MOST_SEGMENTS", 2)
    with Catalogue(store, keys) as catalogue:
        catalogue.append(rows(0))
        catalogue.append(rows(1))
    count = 0
    for _ in steps(lambda c: c.append(rows(0, 2, 3)), store, keys):
        count += 1
        found = fresh(store, keys)
        assert found in (wanted(0, 1), wanted(0, 1, 2, 3))
        with Catalogue(store, keys) as again:
            again.append(rows(4))
        assert fresh(store, keys) == found | wanted(4)
    assert count >= 6
    assert fresh(store, keys) == wanted(0, 1, 2, 3)


@pytest.mark.parametrize("damage", ["head", "segment", "all", "none"])
def test_the_catalogue_is_rebuilt_from_rows_alone(store, keys, damage, tmp_path):
    with Catalogue(store, keys) as catalogue:
        catalogue.append(rows(0, 1))
    for name in list(store.blobs):
        if damage == "all" or name.endswith({"head": "head", "segment": "seg"}.get(damage, "!")):
            del store.blobs[name]
    catalogue = Catalogue(store, keys, str(tmp_path / "c"))
    catalogue.rebuild(rows(1, 2, 3).items())
    assert content(catalogue) == wanted(1, 2, 3) == fresh(store, keys)
    assert len(store.blobs) == 2


def test_sealing_the_head_anew_shuts_out_older_vault_keys(store, keys):
    with Catalogue(store, keys) as catalogue:
        catalogue.append(rows(0))
        keys.generation = 2
        catalogue.reseal()
        assert catalogue.head.g == 2
        catalogue.append(rows(1))
    assert fresh(store, keys) == wanted(0, 1)


def test_listings_count_what_lies_below(store, keys):
    with Catalogue(store, keys) as catalogue:
        catalogue.append(rows(0, 1, count=40))
        catalogue.append({IDS[2]: [Row(object_id=b"x" * 16, path=b"a\xff", size=5)]})
        patients = list(catalogue.listing("patient"))
        assert sorted(p["objects"] for p in patients) == [1, 40, 40]
        assert sum(p["size"] for p in patients) == catalogue.stats()["size"]
        studies = list(catalogue.listing("study", {"PatientID": "P0000001"}))
        assert [s["objects"] for s in studies] in ([30, 10], [10, 30])
        assert len(list(catalogue.listing("series"))) == 9
        (instance,) = catalogue.listing("instance", {"path": b"a\xff"})
        assert instance["path"] == b"a\xff"
        assert instance["record"] == IDS[2]
