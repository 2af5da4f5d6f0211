"""Make dicomcrypt/standard/profile.json: which elements PS3.15 Table E.1-1 protects, and how.

    pip download --no-deps dicom-anonymizer==2.1.0 dicom-standard==0.1.0
    python tools/make_profile_table.py dicom_anonymizer-2.1.0-*.whl dicom_standard-0.1.0-*.whl

Two packages carry the table, neither of them whole. `dicom-anonymizer` has the actions of the basic
profile from the edition of 2026; `dicom-standard` has every column, the options among them, from
the edition of 2020. An element's action is taken from the newer one, its options from the older; an
element without options is protected under all of them, and one that only the older has is
protected as it was. Codes of CID 7050 come from pydicom, which makes them from PS3.16.
"""

import ast
import hashlib
import json
import pathlib
import sys
import zipfile

OUT = pathlib.Path(__file__).resolve().parents[1] / "dicomcrypt" / "standard" / "profile.json"
NEWER = "dicomanonymizer/dicom_anonymization_databases/dicomfields_2026c.py"
OLDER = "dicom_standard-0.1.0.data/data/standard/confidentiality_profile_attributes.json"
LISTS = {
    "D_TAGS": "D", "Z_TAGS": "Z", "X_TAGS": "X", "U_TAGS": "U", "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z", "X_D_TAGS": "X/D", "X_Z_D_TAGS": "X/Z/D", "X_Z_U_STAR_TAGS": "X/Z/U*",
}  # fmt: skip
#: The table's columns, by the words of our options.
COLUMNS = {
    "rtnUIDsOpt": "uids", "rtnDevIdOpt": "devices", "rtnInstIdOpt": "institution",
    "rtnPatCharsOpt": "patient", "rtnLongFullDatesOpt": "dates", "cleanDescOpt": "descriptors",
}  # fmt: skip
CODES = {
    "basic": "BasicApplicationConfidentialityProfile", "uids": "RetainUidsOption",
    "devices": "RetainDeviceIdentityOption", "institution": "RetainInstitutionIdentityOption",
    "patient": "RetainPatientCharacteristicsOption",
    "dates": "RetainLongitudinalTemporalInformationFullDatesOption",
    "descriptors": "CleanDescriptorsOption",
}  # fmt: skip


def text_of(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode()


def newer_actions(wheel):
    """Yield (tag as eight characters, x for any digit; action)."""
    for node in ast.parse(text_of(wheel, NEWER)).body:
        if not isinstance(node, ast.Assign) or node.targets[0].id not in LISTS:
            continue
        for tag in ast.literal_eval(node.value):
            if len(tag) == 2:
                yield f"{tag[0]:04x}{tag[1]:04x}", LISTS[node.targets[0].id]
            else:
                group, element, _, mask = tag
                name = f"{element:04x}" if mask else "xxxx"
                yield f"{group >> 8:02x}xx{name}", LISTS[node.targets[0].id]


def main(newer, older):
    from pydicom import __version__ as pydicom_version
    from pydicom.sr._concepts_dict import concepts

    elements = {tag: [action, {}] for tag, action in newer_actions(newer)}
    for row in json.loads(text_of(older, OLDER)):
        tag = row["id"]
        if len(tag) != 8:
            continue  # private elements: all of them
        options = {COLUMNS[k]: v for k, v in row.items() if k in COLUMNS and v in ("K", "C")}
        elements.setdefault(tag, [row["basicProfile"], {}])[1].update(options)
    codes = {}
    for option, keyword in CODES.items():
        ((value, (meaning, _)),) = concepts["DCM"][keyword].items()
        codes[option] = [value, meaning]
    origin = [
        {"package": pathlib.Path(wheel).name, "file": name, "licence": licence, "of": edition,
         "sha256": hashlib.sha256(pathlib.Path(wheel).read_bytes()).hexdigest()}
        for wheel, name, licence, edition in (
            (newer, NEWER, "BSD-3-Clause", "PS3.15 2026c Table E.1-1, basic profile"),
            (older, OLDER, "MIT", "PS3.15 2020 Table E.1-1, options"),
        )
    ]
    origin.append({"package": f"pydicom {pydicom_version}", "file": "pydicom/sr/_concepts_dict.py",
                   "licence": "MIT", "of": "PS3.16 CID 7050"})
    rows = ",\n".join(f"  {json.dumps(tag)}: {json.dumps(row)}"
                      for tag, row in sorted(elements.items()))
    OUT.write_text(
        f'{{"origin": {json.dumps(origin, indent=1)},\n"codes": {json.dumps(codes, indent=1)},\n'
        f'"elements": {{\n{rows}\n}}}}\n'
    )
    print(f"{len(elements)} elements, {sum(bool(o) for _, o in elements.values())} with options")


if __name__ == "__main__":
    main(*sys.argv[1:3])
