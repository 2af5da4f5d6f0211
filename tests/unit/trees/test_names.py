"""Names that some system does not have, too long ones, and those that lead out of a tree."""

import pytest

from dicomcrypt.errors import UnsafePathError
from dicomcrypt.trees import names
from dicomcrypt.trees.names import object_name, plain_name, reserved_on_windows, safe_relative

RESERVED = [b"con", b"CON", b"Prn.txt", b"aux", b"nul.dcm", b"NUL .x", b"com1", b"LPT9.dcmx",
            b"COM1.tar.gz", b"a.", b"a ", b"a:b", b"a*", b"what?", b"<x", b"x>", b'"', b"a|b",
            b"a\\b", b"a\nb", b"\x1f"]
FREE = [b"con1", b"console", b"com", b"com10", b"lpt", b"a.con", b" con", b"a b", b".a", b"nul_",
        b"image.dcm", b"\xff\xfe", "\u00e4".encode()]


@pytest.mark.parametrize("name", RESERVED)
def test_reserved(name):
    assert reserved_on_windows(name)


@pytest.mark.parametrize("name", FREE)
def test_free(name):
    assert not reserved_on_windows(name)


class Windows:
    name = "nt"

    def __getattr__(self, name):
        import os

        return getattr(os, name)


def test_reserved_names_get_an_id_on_windows_and_stay_elsewhere(monkeypatch):
    assert object_name(b"nul") == b"nul.dcmx"
    monkeypatch.setattr(names, "os", Windows())
    assert object_name(b"nul") is None
    assert object_name(b"image.dcm") == b"image.dcm.dcmx"
    assert object_name(b"a:b") is None
    with pytest.raises(UnsafePathError):
        safe_relative(b"folder/nul/image")
    assert safe_relative(b"folder/image") == b"folder/image"


@pytest.mark.parametrize(("length", "made"), [(249, True), (250, True), (251, False), (255, False)])
def test_names_too_long_for_their_ending(length, made):
    assert (object_name(b"n" * length) is not None) is made


def test_an_object_with_its_id_for_a_name_has_its_place_inside():
    number = bytes(range(16))
    own = number.hex().encode() + b".dcmx"
    assert plain_name(own, b"a/b", number) == b"a/b"
    assert plain_name(b"sub/" + own, b"a/b", number) == b"sub/a/b"
    assert plain_name(b"other.dcmx", b"a/b", number) == b"other"
    assert plain_name(own, None, number) == own[:-5]
    with pytest.raises(UnsafePathError):
        plain_name(own, b"../b", number)
