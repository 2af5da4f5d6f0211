"""A folder of one-time passwords with a clock that tests turn, and channels that keep messages."""

import re
import shutil

from dicomcrypt.otp import home

START = 1_800_000_000_000  # ms
OBJECT = "0d91b1c27a5b8f3e"


class Kept:
    """A channel that keeps what it gets, or fails as often as it is told to."""

    def __init__(self):
        self.messages, self.keys, self.failures = [], [], 0

    def deliver(self, message, key):
        from dicomcrypt.errors import DeliveryError

        self.keys.append(key)
        if self.failures:
            self.failures -= 1
            raise DeliveryError("the mail server cannot be reached")
        self.messages.append(message)

    def codes(self):
        return [answer_in(message) for message in self.messages]


def with_sum(digits):
    return {"code": digits, "sum": str(sum(map(int, digits)))}


def answer_in(message):
    """What somebody would enter after reading a message or text."""
    text = getattr(message, "text", message)
    return with_sum(re.search(r"(?<![0-9+])[0-9]{6}(?![0-9])", text)[0])


def other_than(answer):
    """A wrong code in the right form."""
    return with_sum(f"{(int(answer['code']) + 1) % 1_000_000:06}")


def with_quick_key(parts):
    """Load the key of the codes of a folder's parts without proving its primes: a tenth of a second
    each time, for a key that the tests made. Returns the parts."""
    real, path = parts._code_key, parts._place / "code.key"

    def quick():
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if parts._settings["code_key"] != path.name or path.stat().st_mode & 0o077:
            return real()
        return load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)

    parts._code_key = quick
    return parts


class World:
    def __init__(self, template, folder, **options):
        self.folder, self.now, self.options = folder, START, {"sync": False, **options}
        shutil.copytree(template, folder)
        self.mail, self.sms, self.events = Kept(), Kept(), []
        self.home = None
        self.restart()

    def restart(self):
        """As another process would begin: nothing is kept but the folder."""
        if self.home is not None:
            self.home.close()
        self.home = home.Home(self.folder, clock=lambda: self.now, record=self._record,
                              **self.options)
        with_quick_key(self.home)
        self.home._channels = lambda: {"email": self.mail, "mobile": self.sms}

    def _record(self, action, **event):
        from dicomcrypt.audit.vocabulary import check_event

        self.events.append(check_event(action, "service:otp", event["objects"], event["outcome"],
                                       event["details"]))

    def later(self, seconds):
        self.now += int(seconds * 1000)

    @property
    def service(self):
        return self.home.service

    def anna(self, **grant):
        """Register Anna and bind a link to her; return its token."""
        self.home.persons.add("anna", "anna@klinikum.example", "+491701234567")
        return self.link("anna", **grant)

    def link(self, person, **grant):
        about = {"seconds": 86_400 * 30, "uses": 1000, "bound": True, **grant}
        _, token = self.home.links.create([OBJECT], person=person, **about)
        return token

    def send(self, token, name="anna", **options):
        """Ask for a code and deliver it; return what the person would enter."""
        self.service.request_code(name, token=token, **options)
        self.home.outbox.deliver()
        return self.mail.codes()[-1] if self.mail.messages else None
