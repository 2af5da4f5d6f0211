"""A software card in a slot of the real driver, and OpenSC's own reader
of EF.GDO."""

import os
import subprocess
import threading

import card_world as world
import pcscd
import pytest

from dicomcrypt.card.vpcd import Slot
from tests.conftest import absent, need


@pytest.fixture(scope="module")
def room():
    missing = pcscd.available()
    if missing is not None:
        absent(missing)
    with pcscd.serve() as room:
        yield room


@pytest.fixture
def slot(room):
    """A professional's card, inserted."""
    there = threading.Event()
    slot = Slot(world.make("professional").card, dial=lambda: dial(room),
                told=lambda event: there.set() if event == "inserted" else None)
    thread = threading.Thread(target=slot.run)
    thread.start()
    try:
        assert there.wait(100)
        yield slot
    finally:
        slot.close()
        thread.join(100)


def dial(room):
    """The room's errors as those of a network."""
    try:
        return room.connect(0)
    except RuntimeError as error:
        raise ConnectionError from error


def test_opensc_reads_the_serial_number_with_its_own_reader_of_ef_gdo(slot, tmp_path):
    """The drivers for German cards read EF.GDO; the configuration gives them ours."""
    tool = need("opensc-tool", "opensc")
    settings = tmp_path / "opensc.conf"
    atr = slot.card.atr.hex(":")
    settings.write_text(
        f'app default {{ card_atr {atr} {{ driver = "starcos"; type = 7002; }} }}\n'
    )
    words = [tool, "-r", "0", "-w", "--serial"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=100, check=True,
                          env={**os.environ, "OPENSC_CONF": str(settings)}).stdout
    digits = "".join(told.split()[: len(world.ICCSN) // 2])
    assert digits == world.ICCSN
