"""Audit messages of the standard (PS3.15 section A.5.1) from the events of an audit log."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

DCM, OWN = "DCM", "99DICOMCRYPT"
_INSTANCES, _ALERT = ("110103", "DICOM Instances Accessed"), ("110113", "Security Alert")
_ACTIVITY, _LOGIN = ("110100", "Application Activity"), ("110114", "User Authentication")
_DELETED, _EXPORT, _IMPORT = (
    ("110105", "DICOM Study Deleted"), ("110106", "Export"), ("110107", "Import"),
)  # fmt: skip
_TRANSFERRED, _QUERY = ("110104", "DICOM Instances Transferred"), ("110112", "Query")
_CONFIGURATION = ("110129", "Security Configuration")
_OBJECT_SECURITY = ("110135", "Object Security Attributes Changed")
_USER_SECURITY = ("110137", "User Security Attributes Changed")
_RESTRICTED = ("110132", "Use of Restricted Function")
_Code = tuple[str, str]
#: An action of the log: the event, its type if the standard has one, and what was done: C, R, U,
#: D, E (create, read, update, delete, execute).
EVENTS: dict[str, tuple[_Code, _Code | None, str]] = {
    **dict.fromkeys(("encrypt", "protect"), (_INSTANCES, None, "C")),
    **dict.fromkeys(("decrypt", "reveal", "verify", "frame", "inspect", "salvage", "read",
                     "vault.get", "vault.cat", "vault.verify", "vault.check"),
                    (_INSTANCES, None, "R")),
    "sign": (_INSTANCES, None, "U"),
    "vault.merge": (_INSTANCES, None, "U"), "vault.repair": (_INSTANCES, None, "U"),
    **dict.fromkeys(("vault.add", "vault.restore", "table.import"), (_IMPORT, None, "C")),
    "store": (_TRANSFERRED, None, "C"),
    **dict.fromkeys(("share", "vault.share", "vault.backup", "table.export", "prescription.send"),
                    (_EXPORT, None, "R")),
    **dict.fromkeys(("prescription.sign", "prescription.dispense", "prescription.cancel"),
                    (_ALERT, _OBJECT_SECURITY, "U")),
    "prescription.fetch": (_IMPORT, None, "R"),
    "prescription.open": (_ALERT, _OBJECT_SECURITY, "R"),
    **dict.fromkeys(("delete", "vault.erase"), (_DELETED, None, "D")),
    **dict.fromkeys(("search", "directory.fetch", "rights.ask"), (_QUERY, None, "E")),
    **dict.fromkeys(("rewrap", "vault.rewrap", "vault.recipients", "vault.hold", "vault.release",
                     "vault.retention"), (_ALERT, _OBJECT_SECURITY, "U")),
    **dict.fromkeys(("policy.set", "ca.init", "vault.create", "table.create", "crl.issue"),
                    (_ALERT, _CONFIGURATION, "U")),
    **dict.fromkeys(("keygen", "key.split", "key.combine", "key.create", "key.read", "key.delete",
                     "table.password", "certificate.request", "certificate.issue",
                     "certificate.renew", "certificate.revoke", "certificate.verify",
                     "directory.publish", "card.init", "card.pin", "card.certificate", "card.sign",
                     "card.hash", "card.patient", "card.note", "card.authenticate",
                     "otp.person", "otp.forget", "otp.register", "otp.enroll",
                     "otp.issue", "otp.send"), (_ALERT, _USER_SECURITY, "E")),
    **dict.fromkeys(("otp.link", "otp.revoke", "otp.grant", "otp.refuse"),
                    (_ALERT, _OBJECT_SECURITY, "U")),
    "otp.clock": (_ALERT, _CONFIGURATION, "U"),
    "otp.ask": (_QUERY, None, "E"),
    "otp.open": (_INSTANCES, None, "R"),
    "service.start": (_ACTIVITY, ("110120", "Application Start"), "E"),
    "service.stop": (_ACTIVITY, ("110121", "Application Stop"), "E"),
    **dict.fromkeys(("login", "otp.check"), (_LOGIN, ("110122", "Login"), "E")),
    "table.unlock": (_LOGIN, ("110122", "Login"), "E"),
    "table.lock": (_LOGIN, ("110123", "Logout"), "E"),
}  # fmt: skip
#: What the log calls an outcome: nominal success, minor or serious failure.
OUTCOMES = {"started": "0", "ok": "0", "partial": "4", "usage": "4", "interrupted": "4"}


def message(event: Mapping[str, Any], *, source: str, site: str = "") -> bytes:
    """Return an event of the log (`dicomcrypt.audit.read`) as AuditMessage, XML in UTF-8 without
    line breaks.

    source: AuditSourceID, which of your systems this is; site: AuditEnterpriseSiteID. The log
    names objects by random ids and persons by numbers, and so does the message: it has no patient
    and no study. An action that is not in EVENTS is a Security Alert."""
    kind, subtype, action = EVENTS.get(event["action"], (_ALERT, None, "E"))
    if event["outcome"] == "refused":
        kind, subtype = _ALERT, _RESTRICTED
    root = Element("AuditMessage")
    identification = SubElement(
        root, "EventIdentification", EventActionCode=action, EventDateTime=event["at"],
        EventOutcomeIndicator=OUTCOMES.get(event["outcome"], "8"),
    )  # fmt: skip
    _code(identification, "EventID", DCM, *kind)
    if subtype is not None:
        _code(identification, "EventTypeCode", DCM, *subtype)
    _code(identification, "EventTypeCode", OWN, event["action"], event["action"])
    SubElement(identification, "EventOutcomeDescription").text = event["outcome"]
    _participants(root, event["actor"])
    where = SubElement(root, "AuditSourceIdentification", AuditSourceID=source)
    if site:
        where.set("AuditEnterpriseSiteID", site)
    SubElement(where, "AuditSourceTypeCode", {"csd-code": "4"})  # an application's server process
    for identifier in event["objects"]:
        _object(root, identifier, "object", "Random id of an encrypted object", "2", "3")
    record = _object(root, str(event["n"]), "record", "Number of the record in the audit log",
                     "2", "13")
    for name, value in event["details"].items():
        SubElement(record, "ParticipantObjectDetail", type=name,
                   value=base64.b64encode(str(value).encode()).decode())
    made: bytes = tostring(root, encoding="utf-8", xml_declaration=False)
    return made


def _code(parent: Element, name: str, system: str, code: str, meaning: str) -> None:
    SubElement(parent, name, {"csd-code": code, "codeSystemName": system, "displayName": meaning,
                              "originalText": meaning})


def _participants(root: Element, actor: str) -> None:
    """Who did it, and by which application (DCM 110150)."""
    service = actor.startswith("service:")
    if not service:
        SubElement(root, "ActiveParticipant", UserID=actor, UserIsRequestor="true")
    application = SubElement(
        root, "ActiveParticipant", UserID=actor if service else "dicomcrypt",
        UserIsRequestor="true" if service else "false",
    )  # fmt: skip
    _code(application, "RoleIDCode", DCM, "110150", "Application")


def _object(
    root: Element, identifier: str, code: str, meaning: str, kind: str, role: str
) -> Element:
    found = SubElement(root, "ParticipantObjectIdentification", ParticipantObjectID=identifier,
                       ParticipantObjectTypeCode=kind, ParticipantObjectTypeCodeRole=role)
    _code(found, "ParticipantObjectIDTypeCode", OWN, code, meaning)
    SubElement(found, "ParticipantObjectName").text = code
    return found
