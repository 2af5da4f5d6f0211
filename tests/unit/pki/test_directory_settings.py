"""What a directory's settings may be."""

import pytest

from dicomcrypt.errors import UsageError
from dicomcrypt.pki.directory import Directory


@pytest.mark.parametrize("url", ["ldaps://u:secret@h", "ldap://:secret@h", "ldaps://u@h",
                                 "ldaps://u:secret@h:x"])
def test_a_password_in_an_address_is_refused_and_not_shown(url):
    with pytest.raises(UsageError) as caught:
        Directory(url, url, "dc=x")
    assert "secret" not in str(caught.value)


def test_a_password_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "password"
    path.write_text("secret\n")
    path.chmod(0o640)
    one = Directory("x", "ldaps://h", "dc=x", bind_dn="cn=x", password_file=str(path))
    with pytest.raises(UsageError, match="chmod 600"):
        one.password()
    path.chmod(0o600)
    assert one.password() == "secret"
