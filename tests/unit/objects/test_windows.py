"""However a file comes to the encoder, the object says the same."""

import contextlib
import io
import random

import object_files as make
import pytest

import dicomcrypt as dc
from dicomcrypt.container.layout import TAGS
from dicomcrypt.keys.batch import Envelope

IDENTITY = dc.X25519Identity.generate()
ENVELOPE = Envelope({1: [IDENTITY.recipient]})
SMALL = make.small_files()
LARGE = make.large_files()


def whole(keep, wanted, size):
    return 0, size, True


def tight(keep, wanted, size):
    """As little as the encoder says that it needs."""
    return keep, wanted, False


def at_random(seed, reach):
    choose = random.Random(seed)

    def windows(keep, wanted, size):
        low = choose.choice((keep, choose.randint(max(0, keep - 9000), keep)))
        more = choose.choice((0, choose.randint(0, 40), choose.randrange(reach)))
        return low, min(size, wanted + more), choose.random() < 0.5

    return windows


def contents(blob):
    """What an object says, without what is random in it."""
    opened = make.unlocked(blob, IDENTITY)
    indexes = {sid: opened.index(sid) for sid in opened.streams if sid != TAGS}
    return dc.decrypt(blob, [IDENTITY]), indexes


def check(data, *ways, method=-1, same_index=True):
    plain, indexes = contents(make.encode_in_windows(data, ENVELOPE.material(), whole, method))
    assert plain == data
    for windows in ways:
        again = contents(make.encode_in_windows(data, ENVELOPE.material(), windows, method))
        assert again[0] == data
        assert again[1] == indexes or not same_index
    return indexes


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("method", [-1, 2, None])
def test_windows_do_not_show_in_the_object(name, method):
    ways = [tight, *(at_random(seed, 1 << 16) for seed in range(6))]
    # A last fragment that is cut off is told from its header alone in a narrow window.
    check(SMALL[name], *ways, method=method, same_index=name != "cut in a fragment")


@pytest.mark.parametrize("name", LARGE)
def test_windows_do_not_show_in_an_object_of_several_units(name):
    check(LARGE[name], tight, at_random(1, 6 << 20))


def test_windows_do_not_show_in_the_object_of_a_real_file(corpus_file):
    data = corpus_file.read_bytes()
    ways = [at_random(len(data), 1 << 18)]
    if len(data) < 1 << 20:
        ways.append(tight)
    check(data, *ways)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["text", "many frames", "fragments", "large tags", "empty"])
def test_a_written_object_holds_what_was_written(name, seed):
    data = (SMALL | LARGE)[name]
    choose, sink, at = random.Random(seed), io.BytesIO(), 0
    with dc.ObjectWriter(sink, [IDENTITY.recipient]) as writer:
        while at < len(data):
            size = choose.choice((0, 1, choose.randrange(3000), choose.randrange(1 << 20)))
            assert writer.write(data[at : at + size]) == len(data[at : at + size])
            at += size
    assert writer.close() == len(sink.getvalue())  # closing twice is harmless
    assert contents(sink.getvalue())[1] == check(data)
    assert dc.decrypt(sink.getvalue(), [IDENTITY]) == data
    with pytest.raises(dc.UsageError):
        writer.write(b"more")


@pytest.mark.parametrize("name", ["text", "many frames", "large tags"])
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_an_object_whose_writing_was_broken_off_does_not_open(name, share):
    data = (SMALL | LARGE)[name]
    sink = io.BytesIO()
    writer = dc.ObjectWriter(sink, [IDENTITY.recipient])
    with contextlib.suppress(InterruptedError), writer:
        writer.write(data[: int(share * len(data))])
        raise InterruptedError
    with pytest.raises(dc.DamagedError):
        dc.decrypt(sink.getvalue(), [IDENTITY])
    with pytest.raises(dc.UsageError):
        writer.write(b"more")
    writer.close()
    with pytest.raises(dc.DamagedError):
        dc.decrypt(sink.getvalue(), [IDENTITY])


def test_an_object_that_was_not_closed_does_not_open():
    sink = io.BytesIO()
    writer = dc.ObjectWriter(sink, [IDENTITY.recipient])
    writer.write(SMALL["many frames"])
    with pytest.raises(dc.DamagedError):
        dc.decrypt(sink.getvalue(), [IDENTITY])


class Reluctant(io.BytesIO):
    """Takes a part of what it is given, as a raw file may."""

    def write(self, data):
        return super().write(data[: max(1, len(data) // 2)])


def test_a_sink_that_takes_less_than_it_is_given_gets_everything():
    sink = Reluctant()
    with dc.ObjectWriter(sink, [IDENTITY.recipient]) as writer:
        writer.write(SMALL["colour by plane"])
    assert dc.decrypt(sink.getvalue(), [IDENTITY]) == SMALL["colour by plane"]


def test_writers_that_share_a_batch_do_not_disturb_each_other():
    batch = dc.Batch([IDENTITY.recipient])
    sinks = [io.BytesIO() for _ in range(3)]
    writers = [dc.ObjectWriter(sink, batch=batch) for sink in sinks]
    files = [SMALL["many frames"], SMALL["text"], SMALL["pad byte"]]
    for at in range(0, max(map(len, files)), 5000):
        for writer, data in zip(writers, files, strict=True):
            writer.write(data[at : at + 5000])
    for writer, sink, data in zip(writers, sinks, files, strict=True):
        writer.close()
        assert dc.decrypt(sink.getvalue(), [IDENTITY]) == data
