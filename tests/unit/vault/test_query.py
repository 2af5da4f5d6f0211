"""Queries match as DICOM's do; the oracle is plain Python over rows."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vault_stand_ins import MemoryStore, PlainKeys

from dicomcrypt.errors import UsageError
from dicomcrypt.vault.catalogue import Catalogue
from dicomcrypt.vault.query import Query
from dicomcrypt.vault.rows import Row, identity_row

NAMES = [None, "Müller^Hans", "MULLER^Anna", "Mueller", "Muller", "O'Brien^Seán^P^Dr.",
         "Hans^Muller", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Tarou=山口", "[a]^b", "a*b",
         "Müllerin^Hans", "%_'\"; --"]  # fmt: skip
IDS = [None, "1", "10", "100", "A[1]", "a1", "1'; DROP TABLE objects; --", "x?y", "é"]
DATES = [None, "20200101", "20200131", "20200201", "19991231", "2020"]
TIMES = [None, "10", "1030", "103000", "103000.5", "103059.999999", "110000", "10:30:00"]
UIDS = [None, "1.2.3", "1.2.3.4", "1.2"]
PATHS = [b"a", b"a/b", b"a/b/c", b"a/bc", b"ab/c", b"a[/x", b"\xff/y"]


def plain(text):
    text = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in text if not 0x300 <= ord(c) <= 0x36F)
    return unicodedata.normalize("NFC", text.casefold())


def like(pattern, value):
    wanted = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(wanted, value, re.DOTALL) is not None


def name_matches(query, value):
    asked, groups = plain(query).split("="), plain(value).split("=")
    if not query.strip("^="):
        return True

    def one(part, group):
        part = re.sub(r"(\^\*?)+$", "", "^".join(c or "*" for c in part.split("^")))
        return part in ("", "*") or like(part, group) or like(part + "^*", group)

    if len(asked) == 1:
        return any(one(query_part, g) for query_part in asked for g in groups)
    groups += [""] * (3 - len(groups))
    return all(one(part, group) for part, group in zip(asked, groups, strict=False))


def digits(date):
    return re.sub("[-.]", "", date)


def in_range(query, value, pad=lambda text, fill: text):
    low, dash, high = query.partition("-")
    if not dash:
        high = low
    return (not low or pad(low, "0") <= value) and (not high or value <= pad(high, "9"))


def clock(text, fill="0"):
    return re.sub("[:.]", "", text).ljust(12, fill)


def matches(keyword, query, row):
    if query in ("", "*"):
        return True
    value = getattr(row, keyword)
    if value is None:
        return keyword == "PatientName" and not query.strip("^=*")
    if keyword == "PatientName":
        return name_matches(query, value)
    if keyword == "StudyDate":
        return in_range(query, value)
    if keyword == "StudyTime":
        return in_range(query, clock(value), clock)
    if keyword.endswith("UID"):
        return value in query.split("\\")
    if keyword == "path":
        query, value = query.encode().decode("latin-1"), value.decode("latin-1")
        if "*" in query or "?" in query:
            return like(query, value)
        return value == query or value.startswith(query + "/")
    return like(query, value)


@pytest.fixture(scope="module")
def found():
    store = MemoryStore()
    catalogue = Catalogue(store, PlainKeys()).open()
    rows = [
        Row(object_id=n.to_bytes(16, "big"), path=PATHS[n % 7] + b"%d" % (n // 14), size=n,
            PatientName=NAMES[n % 13], PatientID=IDS[n % 9], StudyDate=DATES[n % 6],
            StudyTime=TIMES[n % 8], StudyInstanceUID=UIDS[n % 4], SOPInstanceUID=UIDS[(n // 3) % 4],
            Modality=(None, "CT", "MR")[n % 3])
        for n in range(260)
    ]  # fmt: skip
    catalogue.append({b"r" * 16: [identity_row("A", "1"), *rows]})
    return catalogue, rows


QUERIES = {
    "PatientName": st.sampled_from(
        ["muller", "MÜLLER^h*", "mul*", "*hans*", "^hans", "hans", "m?ller", "o'brien^sean",
         "yamada", "山田", "=山田", "yamada=山*", "*=山口", "[a]", "a*b", "*^*^p", "%_'\"*", "",
         "*", "^", "Müller^Hans^^"]) | st.text("mul^*?a=[]%", max_size=5).filter(
             lambda t: t.count("=") < 3),
    "PatientID": st.sampled_from([i for i in IDS if i]) | st.text("1a0*?[]", max_size=4),
    "StudyDate": st.sampled_from(["20200101", "20200101-20200131", "-20200101", "20200131-", ""]),
    "StudyTime": st.sampled_from(["10", "1030", "103000", "10-11", "1030-", "-103000", "103000.5"]),
    "StudyInstanceUID": st.sampled_from(["1.2", "1.2.3\\1.2", "9", "*", ""]),
    "SOPInstanceUID": st.sampled_from(["1.2.3.4", "1.2.3\\1.2", "9"]),
    "path": st.sampled_from(["a", "a/b", "a/b/*", "*c*", "a[*", "a?1", "a0", "a/b0", "ab"]),
    "Modality": st.sampled_from(["CT", "?T", "*R"]),
}  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.fixed_dictionaries({}, optional=QUERIES))
def test_queries_find_what_the_oracle_finds(found, query):
    catalogue, rows = found
    wanted = {r.object_id for r in rows if all(matches(k, q, r) for k, q in query.items())}
    assert {row.object_id for _, row in catalogue.rows(query=query)} == wanted


def ids(found, **query):
    return {row.PatientID for _, row in found[0].rows(query=query)}


def test_dates_have_two_forms_and_codes_are_upper_case(found):
    for one, other in (
        ({"StudyDate": "2020-01-31"}, {"StudyDate": "20200131"}),
        ({"StudyDate": "2020-01-01-2020-01-31"}, {"StudyDate": "20200101-20200131"}),
        ({"StudyDate": "2020-01-01/2020-01-31"}, {"StudyDate": "20200101..20200131"}),
        ({"StudyTime": "10:30-11:00"}, {"StudyTime": "1030-1100"}),
        ({"Modality": "ct"}, {"Modality": "CT"}),
        ({"Modality": ["CT", "MR"]}, {"Modality": "?[TR]".replace("[TR]", "?")}),
    ):
        rows = [row for _, row in found[0].rows(query=one)]
        assert rows == [row for _, row in found[0].rows(query=other)]
        assert rows


@pytest.mark.parametrize("query", [
    {"StudyDate": "2020"}, {"StudyDate": "20200230"}, {"StudyDate": "-"}, {"StudyDate": "2020*"},
    {"StudyTime": "25"}, {"StudyTime": "1060"}, {"StudyTime": "noon"}, {"SOPInstanceUID": "1.2*"},
    {"StudyInstanceUID": "' OR 1=1 --"}, {"PatientName": "a=b=c=d"}, {"objects": "1"},
    {"PatientID\" OR 1=1 --": "1"}, {"PatientID": "\udcff"},
], ids=str)  # fmt: skip
def test_what_cannot_be_a_query_is_refused(query):
    with pytest.raises(UsageError):
        Query(query)


@settings(deadline=None)
@given(st.sampled_from(["PatientID", "PatientName", "path", "StudyDescription"]), st.text())
def test_no_text_of_a_query_is_in_the_sql(found, keyword, text):
    try:
        sql, values = Query({keyword: text}).where()
    except UsageError:
        return
    assert sql.count("?") == len(values)
    assert len({Query({keyword: t}).where()[0] for t in ("abc", "'\";")}) == 1
    list(found[0].rows(query={keyword: text}))
