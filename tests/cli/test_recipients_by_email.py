"""From an address to an object: the certificate is looked up, judged, and encrypted to."""

import pytest
from certificates import DAY, Maker, fresh_key
from directory_world import admin, world  # noqa: F401  a fixture

from dicomcrypt.pki import directory_publish as dp

# ruff: noqa: F811  a fixture is named where it is imported and where it is used

ROOT = Maker.root("Hospital Root")


@pytest.fixture
def place(tmp_path, monkeypatch, world):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DICOMCRYPT_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "plain.bin").write_bytes(b"pixels" * 100)
    (tmp_path / "root.crt").write_bytes(ROOT.pem())
    (tmp_path / "config.toml").write_text(
        f"[recipients]\nwarn_recovery = false\n[directories.one]\nurl = '{world.one.tls_url}'\n"
        f"base = '{world.one.suffix}'\nca = '{world.ca}'\n[directory_cache]\npath = ''\n"
    )
    return tmp_path


def publish(world, name, email, maker=ROOT, **options):
    leaf = maker.leaf(name, uses=["encryption"], email=email, key=fresh_key(), **options)
    dp.publish_certificate(admin(world), leaf.certificate)
    return leaf


def test_an_address_is_enough_to_encrypt(place, call, world):
    leaf = publish(world, "Dora Doe", "dora@hospital.test")
    (place / "dora.key").write_bytes(leaf.key_pem())
    done = call("encrypt", "plain.bin", "-r", "dora@hospital.test", "--trust-root", "root.crt",
                "-o", "a.dcmx")
    assert done.status == 0, done.err
    assert call("decrypt", "a.dcmx", "-i", "dora.key", "-o", "back").status == 0
    assert (place / "back").read_bytes() == (place / "plain.bin").read_bytes()


def test_of_two_certificates_the_one_that_holds_is_taken(place, call, world):
    publish(world, "Erik Ek", "erik@hospital.test", begin=-9 * DAY, end=-DAY)
    publish(world, "Erik Ek", "erik@hospital.test", Maker.root("Stranger"))
    words = ["encrypt", "plain.bin", "-r", "erik@hospital.test", "--trust-root", "root.crt"]
    done = call(*words, "-o", "a.dcmx")
    assert done.status != 0
    assert "erik@hospital.test" in done.err
    assert not (place / "a.dcmx").exists()
    leaf = publish(world, "Erik Ek", "erik@hospital.test")
    (place / "erik.key").write_bytes(leaf.key_pem())
    done = call(*words, "-o", "a.dcmx")
    assert done.status == 0, done.err
    assert call("decrypt", "a.dcmx", "-i", "erik.key", "-o", "back").status == 0


def test_nobody_there_and_no_directory(place, call):
    done = call("encrypt", "plain.bin", "-r", "nobody@hospital.test", "-o", "a.dcmx")
    assert done.status == 1
    assert "one: has none" in done.err
    (place / "config.toml").write_text("")
    done = call("encrypt", "plain.bin", "-r", "nobody@hospital.test", "-o", "a.dcmx")
    assert done.status == 2, done.err
