"""What an attacker of one-time passwords could measure or win.

    python bench/otp.py timing [-n 2000]       how long it takes for known and unknown persons
    python bench/otp.py guessing [-n 1000]     link-days won by guessing, on the real code path
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import random
import tempfile
import time

import numpy as np

from dicomcrypt.errors import NoIdentityError, ThrottledError
from dicomcrypt.otp import home
from dicomcrypt.otp.code import truncate
from dicomcrypt.otp.limits import Limits, guessing_chance, likeliest, totp_chance

DAY = 86_400_000 + 300_001
OBJECT = "0d91b1c27a5b8f3e"


class Place:
    """A folder with Anna, a link bound to her, a clock to turn, and few limits in the way."""

    def __init__(self, folder: pathlib.Path, *, bits: int, sync: bool, waits: bool = False) -> None:
        home.create(folder / "otp", bits=bits)
        settings = folder / "otp" / "otp.toml"
        few = "person_checks = 1000000\n" + ("" if waits else "code_waits = []\ntry_waits = []\n")
        settings.write_text(settings.read_text() + "\n[limits]\n" + few)
        self.now = 1_800_000_000_000
        self.home = home.Home(folder / "otp", clock=lambda: self.now, sync=sync)
        self.service = self.home.service
        self.home.persons.add("anna", "anna@klinikum.example")
        self.token = self.link()

    def link(self) -> str:
        return self.home.links.create([OBJECT], person="anna", seconds=86_400 * 3650, uses=1 << 20,
                                      bound=True)[1]

    def next_day(self) -> None:
        self.now += DAY
        if self.now > 1_800_000_000_000 + 86_400_000 * 3600:
            self.now, self.token = 1_800_000_000_000, self.link()
            self.home.context.store.reset_clock()

    def close(self) -> None:
        self.home.close()


# ---- timing -----------------------------------------------------------------------


def ranks(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """The rank test of Mann and Whitney: chance that one of the first is larger than one of the
    second, standard score, and two-sided p (normal approximation)."""
    both = np.concatenate([one, other])
    order = both.argsort().argsort() + 1
    n, m = len(one), len(other)
    u = order[:n].sum() - n * (n + 1) / 2
    z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return u / (n * m), z, math.erfc(abs(z) / math.sqrt(2))


def timing(rounds: int, bits: int, sync: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Place(pathlib.Path(folder), bits=bits, sync=sync)
        other = "x" * 43
        took: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds + 20):
            place.next_day()
            ways = [("known", "anna", place.token), ("unknown person", "nobody", place.token),
                    ("unknown link", "anna", other)]
            random.shuffle(ways)
            for way, name, token in ways:
                for step in ("asked", "checked"):
                    begin = time.perf_counter()
                    try:
                        if step == "asked":
                            place.service.request_code(name, token=token)
                        else:
                            place.service.open(name, {"code": "000000", "sum": "1"}, token=token)
                    except NoIdentityError:
                        pass
                    if number >= 20:
                        took.setdefault((step, way), []).append(time.perf_counter() - begin)
        place.close()
    at = (0.01, 0.25, 0.5, 0.75, 0.99)
    print(f"milliseconds, {rounds} of each, RSA-{bits}, {'with' if sync else 'without'} waiting "
          "for the medium")
    print(f"{'':24}" + "".join(f"{f'{100 * q:g} %':>9}" for q in at)
          + "   larger than known (0.5: alike)")
    for (step, way), seconds in sorted(took.items()):
        line = "".join(f"{1000 * q:9.3f}" for q in np.quantile(seconds, at))
        said = ""
        if way != "known":
            chance, z, p = ranks(np.array(seconds), np.array(took[step, "known"]))
            said = f"   {chance:.3f}, z {z:+.2f}, p {p:.3f}"
        print(f"{step + ', ' + way:24}{line}{said}")


# ---- guessing -----------------------------------------------------------------------


def link_day(place: Place, token: str, guess: int, digits: int) -> tuple[bool, int]:
    """Ask and guess for 24 hours as quickly as it is let; return (won, guesses compared)."""
    end, compared, won = place.now + 86_400_000, 0, False
    while place.now < end and not won:
        try:
            place.service.request_code("anna", token=token)
        except ThrottledError as error:
            place.now += math.ceil(error.seconds * 1000)
            continue
        tries = 0
        while tries < 6 and not won:
            code = f"{(guess + compared) % 10**digits:06}"
            try:
                place.service.open("anna", {"code": code, "sum": str(sum(map(int, code)))},
                                   token=token)
                won = True
            except ThrottledError as error:
                place.now += math.ceil(error.seconds * 1000)
                continue
            except NoIdentityError:
                pass
            tries += 1
            compared += tries <= 5
    return won, compared


def guessing(days: int, digits: int) -> None:
    limits = Limits()
    print(f"six digits, exactly: the likeliest code {float(likeliest()):.6e}, a link and day "
          f"{float(guessing_chance(limits)):.6e} (1 in {float(1 / guessing_chance(limits)):,.0f})")
    both = 1 - (1 - guessing_chance(limits)) * (1 - totp_chance(limits))
    print(f"with an authenticator beside it {float(both):.6e} (1 in {float(1 / both):,.0f})")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(pathlib.Path(folder), bits=2048, sync=False, waits=True)
        place.home.codes._key._truncated = lambda digest: f"{truncate(digest, digits):0>6}"
        won, most = 0, 0
        for _ in range(days):
            right, compared = link_day(place, place.token, random.randrange(10**digits), digits)
            won, most = won + right, max(most, compared)
            place.next_day()
        place.close()
    expected = days * float(guessing_chance(limits, digits))
    print(f"{digits} digits, {days} link-days on the real code path: {won} won, {expected:.1f} "
          f"expected (standard deviation {math.sqrt(expected * (1 - expected / days)):.1f}); at "
          f"most {most} guesses compared in one")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["timing", "guessing"])
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--bits", type=int, default=3072)
    parser.add_argument("--digits", type=int, default=3)
    parser.add_argument("--sync", action="store_true", help="Wait for the medium, as in service.")
    given = parser.parse_args()
    os.environ["DICOMCRYPT_CONFIG"] = ""
    if given.what == "timing":
        timing(given.n, given.bits, given.sync)
    else:
        guessing(given.n, given.digits)
