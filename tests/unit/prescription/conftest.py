import pytest


@pytest.fixture(scope="session", autouse=True)
def library(need_module):
    need_module("fhir", "prescription")
