"""T=1 over a line that loses, spoils, repeats and cuts blocks: the exact bytes, or an error."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomcrypt.card import t1
from dicomcrypt.errors import DamagedError, TokenError

#: What a line does to a block: LRC finds every error within a byte, CRC every burst of 16 bits.
FAULTS = st.one_of(
    st.just(("good",)), st.just(("good",)), st.just(("lost",)), st.just(("twice",)),
    st.just(("stale",)), st.tuples(st.just("cut"), st.integers(0, 300)),
    st.tuples(st.just("grown"), st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("spoilt"), st.integers(0, 300), st.integers(1, 0xFF)),
    st.tuples(st.just("burst"), st.integers(0, 300), st.integers(1, 0xFFFF)),
)


class Line:
    """A line between a terminal and a card, and what it does to the blocks, in turn."""

    def __init__(self, card, faults, code):
        self.card, self.faults, self.code = card, list(faults), code
        self.last_answer = None
        self.blocks = 0

    def __call__(self, block):
        self.blocks += 1
        assert self.blocks < 5000, "no end"
        stale = self.last_answer
        for sent in self._spoil(block, None):
            self.last_answer = self.card.receive(sent)
        if self.last_answer is stale and stale is not None:
            return None
        return next(iter(self._spoil(self.last_answer, stale)), None)

    def _spoil(self, block, stale):
        if block is None:
            return []
        kind, *how = self.faults.pop(0) if self.faults else ("good",)
        if kind == "lost":
            return []
        if kind == "twice":
            return [block, block]
        if kind == "stale":
            return [stale or block]
        if kind == "cut":
            return [block[: how[0] % len(block)]]
        if kind == "grown":
            return [block + how[0]]
        if kind == "spoilt" or (kind == "burst" and self.code is t1.lrc):
            spoilt = bytearray(block)
            spoilt[how[0] % len(block)] ^= how[1] & 0xFF or 1
            return [bytes(spoilt)]
        if kind == "burst":
            spoilt = bytearray(block)
            at = how[0] % (len(block) - 1)
            spoilt[at] ^= how[1] >> 8
            spoilt[at + 1] ^= how[1] & 0xFF
            return [bytes(spoilt)]
        return [block]


def answer_to(message):
    return (message[::-1] * 3)[: len(message) * 2 + 1]


@settings(max_examples=400, deadline=None)
@given(
    messages=st.lists(st.binary(max_size=700), min_size=1, max_size=4),
    faults=st.lists(FAULTS, max_size=60), code=st.sampled_from([t1.lrc, t1.crc]),
    ifsc=st.integers(5, 254), ifsd=st.integers(5, 254),
    waits=st.lists(st.integers(0, 3), max_size=5),
)  # fmt: skip
def test_a_bad_line_gives_the_exact_bytes_or_an_error(messages, faults, code, ifsc, ifsd, waits):
    done = []

    def respond(message):
        done.append(message)
        return answer_to(message)

    card = t1.Card(respond, code=code, ifsc=ifsc, wait=lambda: waits.pop() if waits else 0)
    terminal = t1.Terminal(Line(card, faults, code), code=code, ifsc=ifsc, ifsd=ifsd)
    for message in messages:
        before = len(done)
        try:
            got = terminal.transceive(message)
        except TokenError as error:
            got, said = None, str(error)
        if got is not None:
            assert got == answer_to(message)
            assert done[before:] == [message]
            continue
        assert done[before:] in ([], [message])  # never twice, never another
        if "may or may not" not in said:
            assert "reset" in said
            terminal.reset()
            card.reset()


def test_a_good_line_needs_no_more_blocks_than_there_are_pieces():
    card = t1.Card(answer_to)
    line = Line(card, [], t1.lrc)
    terminal = t1.Terminal(line, ifsc=254)
    message = bytes(range(256)) * 4
    assert terminal.transceive(message) == answer_to(message)
    assert line.blocks == 1 + 5 + 9 - 1  # S(IFS), the message, its answer (the first for nothing)


def test_a_line_that_comes_back_is_in_step_again():
    card = t1.Card(answer_to)
    terminal = t1.Terminal(Line(card, [("lost",)] * 3, t1.lrc), ifsc=254)
    with pytest.raises(TokenError, match="may or may not"):
        terminal.transceive(b"abc")
    assert terminal.transceive(b"abcd") == answer_to(b"abcd")


def test_a_dead_line_asks_for_a_reset():
    terminal = t1.Terminal(lambda block: None)
    with pytest.raises(TokenError, match="reset it"):
        terminal.transceive(b"abc")
    with pytest.raises(TokenError, match="reset the card"):
        terminal.transceive(b"abc")


def test_a_card_that_is_told_too_much_breaks_the_message_off_and_goes_on():
    card = t1.Card(answer_to, most=300)
    terminal = t1.Terminal(Line(card, [], t1.lrc), ifsc=100)
    with pytest.raises(TokenError, match="too long for it"):
        terminal.transceive(bytes(500))
    assert terminal.transceive(b"short") == answer_to(b"short")


def test_a_card_that_never_ends_is_cut_off():
    def endless(block):
        parsed = t1.Block.parse(block, t1.lrc)
        if parsed.request is not None:
            return t1.s_block(parsed.request, parsed.information, answer=True).encode(t1.lrc)
        number, endless.number = endless.number, endless.number ^ 1
        return t1.i_block(number, bytes(254), True).encode(t1.lrc)

    endless.number = 0
    with pytest.raises(TokenError, match="too long"):
        t1.Terminal(endless).transceive(b"abc")

    def waiting(block):
        parsed = t1.Block.parse(block, t1.lrc)
        if parsed.request is not None:
            return t1.s_block(parsed.request, parsed.information, answer=True).encode(t1.lrc)
        return t1.s_block(t1.Supervision.WTX, b"\1").encode(t1.lrc)

    with pytest.raises(TokenError, match="more time without end"):
        t1.Terminal(waiting).transceive(b"abc")


def test_a_card_may_change_what_it_takes_in_the_middle_of_a_chain():
    card = t1.Card(answer_to)
    asked = []

    def line(block):
        parsed = t1.Block.parse(block, t1.lrc)
        if parsed.more and not asked:
            asked.append(card.receive(block))
            return t1.s_block(t1.Supervision.IFS, b"\x10").encode(t1.lrc)
        if parsed.answers == t1.Supervision.IFS:
            return asked[0]
        if parsed.kind == "I" and asked:
            assert len(parsed.information) <= 16
        return card.receive(block)

    terminal = t1.Terminal(line, ifsc=200)
    assert terminal.transceive(bytes(range(250))) == answer_to(bytes(range(250)))


@pytest.mark.parametrize("raw", [
    "", "00", "000000", "00000001", "01000001", "000001FF", "0000FF" + "00" * 256,
    "001F001F", "008C008C", "00830083", "00C401AAFF", "00C100C1", "00C10100C0", "00C300C3",
    "00C00101C0",
])  # fmt: skip
def test_blocks_that_are_none_are_refused(raw):
    with pytest.raises(DamagedError):
        t1.Block.parse(bytes.fromhex(raw), t1.lrc)


@given(st.binary(max_size=300))
def test_random_bytes_are_answered_by_a_block(raw):
    card = t1.Card(answer_to)
    t1.Block.parse(card.receive(raw), t1.lrc)


def test_codes():
    assert t1.crc(b"123456789") == (0x906E).to_bytes(2, "little")  # CRC-16 of ISO/IEC 13239
    assert t1.lrc(bytes.fromhex("00C101FE")) == b"\x3e"
    block = t1.i_block(1, b"x" * 40, True)
    for code in (t1.lrc, t1.crc):
        raw = block.encode(code)
        assert t1.Block.parse(raw, code) == block
        for bit in range(8 * len(raw)):
            spoilt = bytearray(raw)
            spoilt[bit // 8] ^= 1 << bit % 8
            with pytest.raises(DamagedError):
                t1.Block.parse(bytes(spoilt), code)
    assert functools.reduce(lambda a, b: a ^ b, block.encode(t1.lrc)) == 0
