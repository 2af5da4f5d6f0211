"""What the processes of a race do."""

import time

import sqlalchemy.dialects.sqlite  # noqa: F401  once for all of them
from otp_world import with_quick_key

from dicomcrypt.otp import home


def _home(folder, now):
    return with_quick_key(home.Home(folder, clock=lambda: now, sync=False))


def try_code(folder, now, token, answers, barrier, results):
    """Try answers as soon as all are ready; put down how each ended."""
    from dicomcrypt.errors import DicomcryptError

    parts = _home(folder, now)
    _ = parts.service
    barrier.wait(60)
    for answer in answers:
        try:
            parts.service.open("anna", answer, token=token)
            results.put("right")
        except DicomcryptError as error:
            results.put(type(error).__name__)
    parts.close()


def ask_for_codes(folder, now, token, times, barrier, results):
    from dicomcrypt.errors import ThrottledError

    parts = _home(folder, now)
    _ = parts.service
    barrier.wait(60)
    for _ in range(times):
        try:
            parts.service.request_code("anna", token=token)
            results.put("made")
        except ThrottledError:
            results.put("refused")
    parts.close()


def deliver(folder, now, barrier, results, path):
    """Deliver what waits by a channel that writes lines into a file."""
    parts = _home(folder, now)

    class Lines:
        def deliver(self, message, key):
            time.sleep(0.01)
            with open(path, "a") as file:
                file.write(f"{key}\n")

    parts._channels = lambda: {"email": Lines()}
    _ = parts.outbox
    barrier.wait(60)
    results.put(len(parts.outbox.deliver()))
    parts.close()
