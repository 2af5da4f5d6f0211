"""A vault of many small real objects: two thousand in the tests, a million in `make soak`.

DICOMCRYPT_SOAK_OBJECTS: how many in the long run; DICOMCRYPT_SOAK_FOLDER: where (some 9 GB for a
million; what is there from an earlier run is used again). Run with -s for the figures.
"""

from __future__ import annotations

import os
import shutil

import pytest
from vault_million import BATCH, EACH, build, measure


def run(folder, objects) -> None:
    build(folder, objects, 1 if objects <= BATCH else 2)
    figures = measure(folder)
    found = dict(figures)
    assert found["find_patient"]["found"] == EACH
    assert found["find_name"]["found"] > 0
    assert found["erase_patient"]["erased"] == EACH
    assert found["check_structure"]["wrong"] == 0
    assert found["check_structure"]["checked"] % EACH == 0


def test_two_thousand_objects(tmp_path):
    run(str(tmp_path / "soak"), 2000)


@pytest.mark.soak
def test_a_million_objects(tmp_path):
    given = os.environ.get("DICOMCRYPT_SOAK_FOLDER")
    folder = given or str(tmp_path / "soak")
    try:
        run(folder, int(os.environ.get("DICOMCRYPT_SOAK_OBJECTS", "1000000")))
    finally:
        if not given:
            shutil.rmtree(folder, ignore_errors=True)
