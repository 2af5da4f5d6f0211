"""Whatever the order of events and however the clock moves, a code opens at most once, in its five
minutes, within five tries, and ten a day."""

import pathlib
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from otp_world import World, other_than

from dicomcrypt.errors import NoIdentityError, PolicyError, ThrottledError
from dicomcrypt.otp.limits import VALID_MS

DAY = 86_400_000


class Events(RuleBasedStateMachine):
    """A model beside the real thing, on its real database."""

    template = None

    def __init__(self):
        super().__init__()
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.world = World(self.template, self.folder / "otp")
        self.issued = []  # [answer, issue time, tries, state] of every code, oldest first
        self.tried = []  # when an answer was compared with a code
        self.latest = self.world.now
        self.revoked = False

    def teardown(self):
        self.world.home.close()
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self):
        self.token = self.world.anna()

    @property
    def behind(self):
        return self.world.now < self.latest - 2000

    def seen(self):
        """The time that the database has after a transaction."""
        if not self.behind:
            self.latest = max(self.latest, self.world.now)

    @rule(seconds=st.one_of(st.integers(0, 20), st.integers(0, 400), st.just(90_000)))
    def time_passes(self, seconds):
        self.world.later(seconds)

    @rule(milliseconds=st.one_of(st.integers(0, 4000), st.integers(0, 2 * DAY)))
    def the_clock_is_put_back(self, milliseconds):
        self.world.now -= milliseconds

    @rule()
    def the_clock_is_right_again(self):
        self.world.now = max(self.world.now, self.latest)

    @rule()
    def it_begins_anew(self):
        self.world.restart()

    @rule()
    def a_code_is_asked_for(self):
        before = len(self.world.mail.messages)
        try:
            self.world.send(self.token)
        except PolicyError:
            assert self.behind
            return
        except ThrottledError:
            self.seen()
            return
        self.seen()
        if self.revoked:
            assert len(self.world.mail.messages) == before
            return
        assert len(self.world.mail.messages) == before + 1
        for code in self.issued:
            if code[3] == "live":
                code[3] = "void"
        self.issued.append([self.world.mail.codes()[-1], self.latest, 5, "live"])

    @rule()
    def it_is_asked_for_by_somebody_else(self):
        try:
            self.world.service.request_code("nobody", token=self.token)
            self.world.home.outbox.deliver()
            self.seen()
        except (ThrottledError, PolicyError):
            self.seen()

    @precondition(lambda self: self.issued)
    @rule(which=st.integers(0, 3), right=st.booleans(), token=st.booleans())
    def a_code_is_tried(self, which, right, token):
        """One of the newest codes, or a wrong one, on this link or on one that is not there."""
        answer = self.issued[-1 - which % len(self.issued)][0]
        given = answer if right else other_than(answer)
        newest, link = self.issued[-1], self.token if token else "x" * 43
        valid = (token and not self.revoked and newest[3] == "live" and newest[2] > 0
                 and not self.behind
                 and newest[1] <= max(self.latest, self.world.now) < newest[1] + VALID_MS)
        try:
            self.world.service.open("anna", given, token=link)
        except PolicyError:
            assert self.behind or self.revoked
        except ThrottledError:
            self.seen()
        except NoIdentityError:
            self.seen()
            assert not (valid and given == newest[0])
            if valid:
                newest[2] -= 1
                self.tried.append(self.latest)
        else:
            self.seen()
            assert valid
            assert given == newest[0]
            newest[2:] = [newest[2] - 1, "used"]
            self.tried.append(self.latest)

    @rule()
    def the_code_is_sent_again(self):
        if self.behind or not self.issued or self.issued[-1][3] != "live":
            return
        self.world.home.outbox.deliver()
        self.seen()

    @rule()
    def the_link_is_revoked(self):
        if not self.revoked and not self.behind and len(self.issued) > 4:
            self.world.home.links.revoke(self.world.home.links.all()[0]["link"])
            self.seen()
            self.revoked = True

    @invariant()
    def limits_hold(self):
        assert all(code[2] >= 0 for code in self.issued)
        for times, most in (([code[1] for code in self.issued], 10), (self.tried, 50)):
            for end in times:
                assert sum(end - DAY < at <= end for at in times) <= most


def run(template, examples, steps):
    Events.template = template
    case = Events.TestCase
    case.settings = settings(max_examples=examples, stateful_step_count=steps, deadline=None,
                             suppress_health_check=list(HealthCheck), database=None)
    case("runTest").runTest()


def test_in_any_order_of_events_the_rules_hold(template):
    run(template, 12, 30)


@pytest.mark.soak
def test_in_any_order_of_events_the_rules_hold_for_long(template):
    run(template, 2000, 60)
