import os

import pytest

from dicomcrypt import config
from dicomcrypt.errors import UsageError


@pytest.fixture
def written(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(path))
    return path


def test_sections_and_files_relative_to_the_configuration(written):
    written.write_text('[trust]\nroots = ["root.pem", "/etc/other.pem"]\n'
                       '[recipients]\ndefault = "a"\n')
    assert config.section("trust")["roots"][0] == "root.pem"
    assert config.files("trust", "roots") == [str(written.parent / "root.pem"), "/etc/other.pem"]
    assert config.files("recipients", "default") == [str(written.parent / "a")]
    assert config.section("groups") == {}
    assert config.files("trust", "crls") == []


@pytest.mark.parametrize("text", [
    "[trust", "trust = 1", "[trust]\nroots = 3", '[trust]\nroots = [""]'])
def test_what_cannot_be_meant_names_the_file(written, text):
    written.write_text(text)
    with pytest.raises(UsageError, match=r"config\.toml"):
        config.files("trust", "roots")


def test_bytes_that_are_not_text(written):
    written.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"config\.toml"):
        config.section("trust")


def test_none_where_the_environment_says_so(monkeypatch):
    monkeypatch.setenv("DICOMCRYPT_CONFIG", "")
    assert config.section("trust") == {}


def test_a_named_file_must_be_there_and_a_default_need_not(tmp_path, monkeypatch):
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="which is not there"):
        config.section("trust")
    monkeypatch.delenv("DICOMCRYPT_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert config.section("trust") == {}


def test_too_large(written):
    written.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(UsageError, match="too large"):
        config.section("trust")


def test_names_as_they_stand_there_and_switches(written):
    written.write_text('[recipients]\ndefault = ["@ct", "a.pub"]\nwarn_recovery = false\n')
    assert config.names("recipients", "default") == ["@ct", "a.pub"]
    assert config.beside("a.pub") == str(written.parent / "a.pub")
    assert config.flag("recipients", "warn_recovery", True) is False
    assert config.flag("trust", "require_crl", True) is True
    written.write_text('[trust]\nrequire_crl = "no"\n')
    with pytest.raises(UsageError, match=r"config\.toml.*require_crl is true or false"):
        config.flag("trust", "require_crl", True)


@pytest.mark.parametrize(("text", "named"), [
    ("[trusts]\n", "trusts"), ("roots = 3\n", "roots"), ("[trust]\nrequire_crls = true\n",
    "require_crls"), ("[recipients]\nrecover = 'a'\n", "recover"),
    ("[pkcs11]\nmodules = 'a'\n", "modules"), ("[directory_cache]\npaths = ''\n", "paths"),
    ("[audit]\nlogs = 'a'\n", "logs"), ("[policy]\npresets = 'a'\n", "presets"),
])  # fmt: skip
def test_what_is_not_known_is_refused_whatever_is_asked_for(written, text, named):
    written.write_text(text)
    for asked in ("trust", "recipients"):
        with pytest.raises(UsageError, match=rf"config\.toml.*'{named}'"):
            config.section(asked)


def test_free_names_and_third_parties(written):
    written.write_text("[groups]\nct = 'a.pub'\n[plugins.card]\nreader = 3\n"
                       "[directories.one]\nurl = 'ldaps://x'\n")
    assert config.section("plugins") == {"card": {"reader": 3}}
    assert config.names("groups", "ct") == ["a.pub"]


def test_hostile_files(written):
    for text in ("a = " + "[" * 100_000, "a = " + "9" * 100_000):
        written.write_text(text)
        with pytest.raises(UsageError, match=r"config\.toml"):
            config.section("trust")
    written.unlink()
    os.mkfifo(written)
    with pytest.raises(UsageError, match="not a regular file"):
        config.section("trust")
