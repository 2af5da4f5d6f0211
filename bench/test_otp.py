"""Codes made and checked a second: the signature alone, and with all that the database does."""

import pathlib
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

pytest.importorskip("sqlalchemy")

from dicomcrypt.errors import NoIdentityError
from dicomcrypt.otp.code import CodeKey

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from otp import Place


@pytest.mark.parametrize("bits", [2048, 3072])
def test_code(measure, bits):
    key = CodeKey(rsa.generate_private_key(65537, bits))
    about = ("open", "ab" * 16, "cd" * 16, bytes(16), 1_800_000_000_000)
    row = measure(f"code, RSA-{bits}", lambda: key.code(*about), rounds=200)
    row.note = f"{1 / row.seconds:,.0f} a second"


@pytest.mark.parametrize("sync", [True, False], ids=["on the medium", "in memory"])
def test_made_and_checked(measure, tmp_path, sync):
    place = Place(tmp_path, bits=3072, sync=sync)
    where = "on the medium" if sync else "without waiting for it"

    def make():
        place.next_day()
        place.service.request_code("anna", token=place.token)

    row = measure(f"code made, RSA-3072, {where}", make, rounds=200)
    row.note = f"{1 / row.seconds:,.0f} a second"

    def check():
        with pytest.raises(NoIdentityError):
            place.service.open("anna", {"code": "000000", "sum": "1"}, token=place.token)

    row = measure(f"code checked, RSA-3072, {where}", check, rounds=200)
    row.note = f"{1 / row.seconds:,.0f} a second"
    place.close()
