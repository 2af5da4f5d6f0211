"""`dicomcrypt vault ls` and `find`."""

from __future__ import annotations

import json

import pytest
from vault_rows import patient_rows

from dicomcrypt.vault.rows import Row, identity_row
from dicomcrypt.vault.vault import Vault


@pytest.fixture(scope="module")
def archive(tmp_path_factory, doctor):
    folder = tmp_path_factory.mktemp("vault") / "archive"
    with Vault.create(folder, {"doctor": doctor.recipient}) as vault:
        with vault.keys.transaction():
            ids = [vault.keys.new_record_key()[0] for _ in range(4)]
        rows = {ids[n]: patient_rows(n, 40) for n in range(3)}
        rows[ids[3]] = [identity_row(None, "evil"), Row(
            object_id=b"e" * 16, path=b"sub/\xff\x1b[31m", size=7, PatientID="evil",
            PatientName="Evil\x1b[2J^\u202eName", Modality="OT")]  # fmt: skip
        vault.catalogue.append(rows)
    return folder


@pytest.fixture
def ask(call, keys, archive):
    def run(command, *words):
        return call("vault", command, archive, *words, "-i", keys / "doctor.key")

    return run


@pytest.mark.parametrize(("level", "count"), [
    ("patient", 4), ("study", 7), ("series", 13), ("instance", 121)])  # fmt: skip
def test_every_level_is_shown(ask, level, count):
    found = ask("ls", "--level", level, "--json")
    assert found.status == 0
    rows = json.loads(found.out)
    assert len(rows) == count
    assert sum(row.get("objects", 1) for row in rows) == 121
    shown = ask("ls", "--level", level)
    assert len(shown.out.splitlines()) == count


def test_the_tree_says_each_thing_once():
    from dicomcrypt.cli.vault_find import _tree

    rows = [{"PatientID": "1", "StudyDate": d, "objects": 2, "series": 1, "size": 1500}
            for d in ("20200101", "20200102")]  # fmt: skip
    assert list(_tree(rows, "study", 80)) == [
        "1",
        "  20200101  (1 series, 2 objects, 1.5 kB)",
        "  20200102  (1 series, 2 objects, 1.5 kB)",
    ]
    assert list(_tree([{"size": None, "objects": 1}], "patient", 80)) == [
        "(no patient)  (1 objects, 0 B)"]


def test_long_text_is_cut_on_a_terminal_alone(ask):
    from rich.cells import cell_len

    from dicomcrypt.cli.vault_find import _tree

    row = {"PatientID": "4711" * 20, "PatientName": "\u96fb" * 60, "PatientSex": "O", "objects": 2,
           "StudyInstanceUID": "1." * 31 + "1", "StudyDescription": "x" * 400, "size": 0}
    patient, study = _tree([row], "study", 80)
    assert cell_len(patient) <= 80
    assert patient.startswith("471147114711")
    assert patient.endswith("\u2026  O")
    assert row["StudyInstanceUID"] in study  # whole, for whoever copies it
    assert "xxxxxxx\u2026" in study
    assert list(_tree([row], "patient", 1000)) == [
        f"{row['PatientID']}  {row['PatientName']}  O  (2 objects, 0 B)"]
    evil = next(r for r in json.loads(ask("ls", "--level", "patient", "--json").out)
                if r["PatientID"] == "evil")
    assert evil["PatientName"] == "Evil\x1b[2J^\u202eName"


def test_find_matches_by_options_and_keywords(ask):
    name = patient_rows(1, 1)[1].PatientName
    for words in (["--patient-name", name.upper()], ["--patient-id", "P?000001"],
                  ["PatientID=P0000001"], ["--issuer", "HOSPITAL A", "--modality", "*"]):
        found = ask("find", *words, "--level", "patient", "--json")
        assert [row["PatientID"] for row in json.loads(found.out)] == ["P0000001"], words
    row = patient_rows(2, 40)[30]
    for words in (["--instance-uid", row.SOPInstanceUID], ["--path", row.path.decode()],
                  ["--series-uid", row.SeriesInstanceUID, f"InstanceNumber={row.InstanceNumber}"],
                  ["--study-date", row.StudyDate, "--accession", row.AccessionNumber,
                   "--study-uid", row.StudyInstanceUID, "--series-uid", row.SeriesInstanceUID,
                   f"InstanceNumber={row.InstanceNumber}"]):
        found = ask("find", *words, "--level", "instance", "--json")
        assert row.object_id.hex() in [r["object_id"] for r in json.loads(found.out)], words
    assert json.loads(ask("find", "--patient-id", "nobody", "--json").out) == []
    assert ask("find", "--patient-id", "nobody").out == ""


@pytest.mark.parametrize("words", [
    [], ["--study-date", "yesterday"], ["--study-uid", "1.2*"], ["PatientID"], ["Nothing=1"]])
def test_what_is_no_query_is_wrong_usage(ask, words):
    found = ask("find", *words)
    assert found.status == 2
    assert found.out == ""


def test_control_characters_reach_no_terminal(ask):
    for words in (["ls", "--level", "instance"], ["ls", "--level", "patient"],
                  ["find", "--patient-id", "evil", "--level", "instance", "--json"]):
        found = ask(*words)
        assert "\x1b" not in found.out
        assert "\u202e" not in found.out
        assert "evil" in found.out
