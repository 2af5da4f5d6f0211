"""The table of protected elements, against pydicom's dictionary and some of the standard."""

import importlib.util
import pathlib

import pytest
from pydicom.datadict import DicomDictionary, RepeatersDictionary, dictionary_VR

from dicomcrypt.standard.profile import CLEAN, RETAIN, Profile, dummy, table

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_where_the_table_comes_from_is_recorded():
    for source in table()["origin"]:
        assert {"package", "file", "licence", "of"} <= set(source)
    assert len(table()["origin"]) == 3


def test_every_element_is_one_that_the_dictionary_has_or_newer():
    unknown = []
    for digits, (action, options) in table()["elements"].items():
        assert action in ("X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*")
        assert set(options) <= {*RETAIN, *CLEAN}
        if "x" in digits:
            assert any(digits[:4] == key[:4].lower() for key in RepeatersDictionary)
        elif int(digits, 16) not in DicomDictionary and int(digits[:4], 16) > 0:
            unknown.append(digits)
    assert len(unknown) < 40  # added to the standard since that dictionary was made


def test_replaced_uids_are_uids():
    for digits, (action, _) in table()["elements"].items():
        if action == "U" and int(digits, 16) in DicomDictionary:
            assert dictionary_VR(int(digits, 16)) == "UI", digits


@pytest.mark.parametrize(("tag", "action"), [
    (0x00100010, "Z"), (0x00080018, "U"), (0x0020000D, "U"), (0x00080005, ""), (0x00280010, ""),
    (0x00091001, "X"), (0x60003000, "X"), (0x50020010, "X"), (0x00100030, "Z"), (0x00100000, "X"),
    (0x00100BAD, "X"), (0x00081140, "U"), (0x00120062, "X"), (0x00080023, "D"),
])  # fmt: skip
def test_what_the_basic_profile_does(tag, action):
    assert Profile().action(tag) == action


@pytest.mark.parametrize(("option", "tag"), [
    ("dates", 0x00080020), ("dates", 0x00080022), ("devices", 0x00181000), ("uids", 0x00080018),
    ("institution", 0x00080080), ("patient", 0x00100040),
])  # fmt: skip
def test_what_options_retain(option, tag):
    assert Profile().action(tag) != "K"
    assert Profile(frozenset([option])).action(tag) == "K"
    assert Profile(frozenset([option])).action(0x00100010) == "Z"


def test_no_option_keeps_who_the_patient_is():
    profile = Profile(frozenset(RETAIN), frozenset(CLEAN))
    for tag in (0x00100010, 0x00100020, 0x00101001, 0x00100030, 0x00080050, 0x00080090):
        assert profile.action(tag) in ("X", "Z", "D"), hex(tag)


@pytest.mark.parametrize("vr", ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "TM", "UC",
                                "US", "FD", "OB", "OW", "UN", "UR"])  # fmt: skip
def test_dummies_are_values_of_their_vr(vr):
    from pydicom import config
    from pydicom.valuerep import validate_value

    value = dummy(vr.encode())
    assert value
    if vr not in ("US", "FD", "OB", "OW", "UN"):
        validate_value(vr, value.decode(), config.RAISE)


def test_the_tool_makes_the_table_that_is_shipped(tmp_path, monkeypatch):
    """From wheels with what it reads of them."""
    import json
    import zipfile

    spec = importlib.util.spec_from_file_location("make", ROOT / "tools" / "make_profile_table.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    newer, older = tmp_path / "newer.whl", tmp_path / "older.whl"
    with zipfile.ZipFile(newer, "w") as archive:
        archive.writestr(make.NEWER, "Z_TAGS = [(0x0010, 0x0010)]\n"
                                     "X_TAGS = [(0x6000, 0x4000, 0xFF00, 0xFFFF)]\n")
    rows = [{"id": "00100010", "basicProfile": "D", "rtnPatCharsOpt": "K"},
            {"id": "00181000", "basicProfile": "X/Z/D", "rtnDevIdOpt": "K"},
            {"id": "ggggeeee-where-gggg-is-odd", "basicProfile": "X"}]
    with zipfile.ZipFile(older, "w") as archive:
        archive.writestr(make.OLDER, json.dumps(rows))
    monkeypatch.setattr(make, "OUT", tmp_path / "out.json")
    make.main(newer, older)
    made = json.loads((tmp_path / "out.json").read_text())
    assert made["elements"] == {
        "00100010": ["Z", {"patient": "K"}], "00181000": ["X/Z/D", {"devices": "K"}],
        "60xx4000": ["X", {}],
    }  # fmt: skip
    assert made["codes"] == table()["codes"]
