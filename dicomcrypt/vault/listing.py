"""What the catalogue holds, level by level, with counts and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .database import Database
from .query import Query

LEVELS = ("patient", "study", "series", "instance")
#: What tells one from another at each level, and what is shown of it.
_KEYS = {
    "patient": ["coalesce(g.\"PatientID\", g.record)", "g.\"IssuerOfPatientID\""],
    "study": ["g.\"StudyInstanceUID\""],
    "series": ["g.\"SeriesInstanceUID\""],
}
_SHOWN = {
    "patient": ["IssuerOfPatientID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex"],
    "study": ["StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber",
              "StudyID"],
    "series": ["SeriesInstanceUID", "SeriesNumber", "Modality", "SeriesDescription",
               "BodyPartExamined", "SeriesDate"],
    "instance": ["SOPInstanceUID", "InstanceNumber", "SOPClassUID", "TransferSyntaxUID"],
}  # fmt: skip
_COUNTS = {
    "patient": ['count(DISTINCT g."StudyInstanceUID") AS studies',
                'count(DISTINCT g."SeriesInstanceUID") AS series'],
    "study": ['count(DISTINCT g."SeriesInstanceUID") AS series',
              'group_concat(DISTINCT g."Modality") AS modalities'],
    "series": [],
}  # fmt: skip
_ORDER = {
    "patient": 'max(g."PatientName"), g."PatientID", g."IssuerOfPatientID", g.record',
    "study": 'max(g."StudyDate"), max(g."StudyTime"), g."StudyInstanceUID"',
    "series": 'CAST(max(g."SeriesNumber") AS INTEGER), g."SeriesInstanceUID"',
}


def listing(database: Database, level: str, query: Query | None = None
            ) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yield what matches at a level, in the tree's order: a dictionary of DICOM keywords down to
    that level, `objects`, `size` and `object_size` (bytes), and counts of what lies below.

    At `instance`, `path` (bytes), `object_id` and `record` (bytes) stand in the place of counts."""
    query = query or Query({})
    if query.by_uid:
        database.need("uid")
    where, values = query.where()
    upper = LEVELS[: LEVELS.index(level) + 1]
    names = [name for part in upper for name in _SHOWN[part]]
    source = "FROM objects o JOIN groups g ON g.id = o.grp JOIN records r ON r.id = g.record"
    if level == "instance":
        own = {"SOPInstanceUID", "InstanceNumber"}
        shown = [f'{"o" if name in own else "g"}."{name}"' for name in names]
        sql = (
            f"SELECT {', '.join(shown)}, CAST(ifnull(g.folder, x'') || o.name AS BLOB) AS path, "
            f"o.object_id, r.key_id AS record, o.size, o.object_size {source} WHERE {where} "
            'ORDER BY g."PatientName", g."PatientID", g."IssuerOfPatientID", g."StudyDate", '
            'g."StudyInstanceUID", CAST(g."SeriesNumber" AS INTEGER), g."SeriesInstanceUID", '
            'CAST(o."InstanceNumber" AS INTEGER), o.id'
        )
    else:
        shown = [f'max(g."{name}") AS "{name}"' for name in names]
        keys = [key for part in upper for key in _KEYS[part]]
        order = ", ".join(_ORDER[part] for part in upper)
        counts = [*_COUNTS[level], "count(*) AS objects", "sum(o.size) AS size",
                  "sum(o.object_size) AS object_size"]  # fmt: skip
        sql = (f"SELECT {', '.join(shown + counts)} {source} WHERE {where} "
               f"GROUP BY {', '.join(keys)} ORDER BY {order}")
    cursor = database.db.execute(sql, values)
    heads = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(heads, row, strict=True))
