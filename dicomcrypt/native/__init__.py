"""The native modules: the block engine and the DICOM scanner."""

from importlib.util import find_spec

if find_spec(f"{__name__}._block") is None:
    raise ImportError(
        "dicomcrypt is not built here: this is its source folder; go to another one, where Python "
        "finds what was installed, or build it here with pip install -e ."
    )
