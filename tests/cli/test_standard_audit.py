"""The audit log as messages of PS3.15 A.5.1: the schema's rules, as its text has them."""

import base64
import re
from xml.etree import ElementTree

import pytest

from dicomcrypt.audit import AuditLog
from dicomcrypt.audit.vocabulary import ACTIONS, OUTCOMES
from dicomcrypt.standard.audit_messages import EVENTS, message

#: Element: (attributes it must have, attributes it may have, children in their order with how
#: often: "1", "?", "*", "+"). RELAX NG of PS3.15 A.5.1.
CODED = ({"csd-code", "codeSystemName", "originalText"}, {"displayName"}, [])
RULES = {
    "AuditMessage": (set(), set(), [
        ("EventIdentification", "1"), ("ActiveParticipant", "+"),
        ("AuditSourceIdentification", "1"), ("ParticipantObjectIdentification", "*")]),
    "EventIdentification": (
        {"EventDateTime", "EventOutcomeIndicator"}, {"EventActionCode"},
        [("EventID", "1"), ("EventTypeCode", "*"), ("EventOutcomeDescription", "?")]),
    "EventID": CODED, "EventTypeCode": CODED, "RoleIDCode": CODED,
    "ParticipantObjectIDTypeCode": CODED,
    "EventOutcomeDescription": (set(), set(), []),
    "ActiveParticipant": (
        {"UserID", "UserIsRequestor"},
        {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
        [("RoleIDCode", "*"), ("MediaIdentifier", "?")]),
    "AuditSourceIdentification": ({"AuditSourceID"}, {"AuditEnterpriseSiteID"},
                                  [("AuditSourceTypeCode", "*")]),
    "AuditSourceTypeCode": ({"csd-code"}, {"codeSystemName", "displayName", "originalText"}, []),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID"},
        {"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole",
         "ParticipantObjectDataLifeCycle", "ParticipantObjectSensitivity"},
        [("ParticipantObjectIDTypeCode", "1"), ("ParticipantObjectName", "1"),
         ("ParticipantObjectDetail", "*"), ("ParticipantObjectDescription", "*")]),
    "ParticipantObjectName": (set(), set(), []),
    "ParticipantObjectDetail": ({"type", "value"}, set(), []),
}  # fmt: skip
VALUES = {
    "EventActionCode": "[CRUDE]", "EventOutcomeIndicator": "0|4|8|12",
    "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "UserIsRequestor": "true|false",
    "ParticipantObjectTypeCode": "[1-4]",
    "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
}  # fmt: skip


def parse(text):
    return ElementTree.fromstring(text)  # noqa: S314


def check(element):
    """Fail unless an element and all below it are as the schema has them."""
    must, may, children = RULES[element.tag]
    assert must <= set(element.attrib) <= must | may, element.tag
    for name, value in element.attrib.items():
        assert re.fullmatch(VALUES.get(name, r"\S(.*\S)?"), value), (name, value)
    names = "".join(f"<{child.tag}>" for child in element)
    pattern = "".join(f"(<{n}>){often.replace('1', '')}" for n, often in children)
    assert re.fullmatch(pattern, names), (element.tag, names)
    for child in element:
        check(child)


def event(action, outcome="ok", **more):
    return {"n": 7, "at": "2027-01-31T08:00:00.123456Z", "action": action, "outcome": outcome,
            "actor": "uid:1000", "objects": ["ab" * 16], "details": {"done": 3}, **more}


def test_every_action_and_outcome_is_as_the_schema_says():
    for action in sorted(ACTIONS):
        for outcome in sorted(OUTCOMES):
            check(parse(message(event(action, outcome), source="pacs")))


def test_every_action_of_the_log_has_its_event():
    assert set(EVENTS) == ACTIONS


@pytest.mark.parametrize(("action", "outcome", "code", "kind", "indicator"), [
    ("decrypt", "ok", "110103", None, "0"), ("vault.add", "partial", "110107", None, "4"),
    ("vault.backup", "ok", "110106", None, "0"), ("service.start", "ok", "110100", "110120", "0"),
    ("login", "no-identity", "110114", "110122", "8"),
    ("decrypt", "refused", "110113", "110132", "8"),
    ("rewrap", "ok", "110113", "110135", "0"), ("verify", "damaged", "110103", None, "8"),
])  # fmt: skip
def test_events_have_the_standard_s_codes(action, outcome, code, kind, indicator):
    told = parse(message(event(action, outcome), source="pacs"))
    found = told.find("EventIdentification")
    assert found.find("EventID").get("csd-code") == code
    types = [t.get("csd-code") for t in found.findall("EventTypeCode")]
    assert types == ([kind] if kind else []) + [action]
    assert found.get("EventOutcomeIndicator") == indicator
    detail = told.find(".//ParticipantObjectDetail")
    assert (detail.get("type"), base64.b64decode(detail.get("value"))) == ("done", b"3")


def test_text_is_escaped():
    nasty = 'a"<b>&\'\u00e4\n'
    blob = message(event("decrypt"), source=nasty, site=nasty)
    assert b"\n" not in blob
    told = parse(blob).find("AuditSourceIdentification")
    assert told.get("AuditSourceID") == told.get("AuditEnterpriseSiteID") == nasty


def test_services_are_their_own_requestors():
    told = parse(
        message(event("store", actor="service:gateway", objects=[], details={}), source="x"))
    check(told)
    (only,) = told.findall("ActiveParticipant")
    assert (only.get("UserID"), only.get("UserIsRequestor")) == ("service:gateway", "true")


def test_export_writes_a_message_a_line(call, tmp_path):
    log = tmp_path / "audit.log"
    with AuditLog.open(log, None) as opened:
        opened.record("encrypt", actor="uid:1", outcome="started")
        opened.record("encrypt", actor="uid:1", outcome="ok", objects=["cd" * 16])
    out = tmp_path / "m.xml"
    done = call("standard", "audit", "export", log, "-o", out, "--source-id", "node-1")
    assert (done.status, done.err) == (0, f"2 messages -> {out}\n")
    lines = out.read_bytes().splitlines()
    for line in lines:
        check(parse(line))
    assert len(lines) == 2
    assert out.stat().st_mode & 0o777 == 0o600
    assert call("standard", "audit", "export", log, "-o", out).status == 1  # it exists
    assert call("standard", "audit", "export", log, "-o", out, "-f", "--outcome", "ok").status == 0
    assert len(out.read_bytes().splitlines()) == 1
    log.write_bytes(log.read_bytes().replace(b'"uid:1"', b'"uid:2"', 1))
    assert call("standard", "audit", "export", log, "-o", tmp_path / "n.xml").status == 4
    assert not (tmp_path / "n.xml").exists()
