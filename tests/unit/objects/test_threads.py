"""Writers and opened objects in threads and tasks, and writers that are broken off there."""

import asyncio
import contextlib
import io
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import object_files as make
import pytest

import dicomcrypt as dc

IDENTITY = dc.Identity.generate()
FRAMES = 24
NATIVE = make.dicom(256, 200, make.noise(256 * 200 * FRAMES), frames=FRAMES)
COMPRESSED = make.dicom(
    512, 512, make.encapsulated([make.noise(90_000 + n, n) for n in range(FRAMES)]),
    frames=FRAMES, syntax=make.JPEG,
)  # fmt: skip


@pytest.fixture(params=[None, "portable"])
def kernel(request, monkeypatch):
    if request.param:
        monkeypatch.setenv("DICOMCRYPT_KERNEL", request.param)


@pytest.fixture
def ways(tmp_path):
    """The same object by every adapter."""

    def make_ways(blob):
        path = tmp_path / "o.dcmx"
        path.write_bytes(blob)
        yield path
        yield make.CountingSource(blob)
        yield io.BytesIO(blob)
        with path.open("rb") as file:
            yield file

    return make_ways


@pytest.mark.parametrize("data", [NATIVE, COMPRESSED], ids=["native", "compressed"])
def test_threads_read_frames_of_one_object_at_once(data, kernel, ways):
    blob = dc.encrypt(data, [IDENTITY.recipient])
    with dc.open(blob, [IDENTITY]) as obj:
        expected = list(obj.frames)
    for source in ways(blob):
        with dc.open(source, [IDENTITY]) as obj, ThreadPoolExecutor(8) as pool:
            order = [n for n in range(FRAMES) for _ in range(4)]
            random.Random(0).shuffle(order)
            for number, frame in zip(order, pool.map(obj.frame_bytes, order), strict=True):
                assert frame == expected[number]


def test_threads_open_objects_of_one_batch_with_one_cache():
    batch, cache = dc.Batch([IDENTITY.recipient]), dc.BatchKeyCache()
    blobs = [batch.encrypt(bytes([n]) * 1000) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda blob: dc.decrypt(blob, [IDENTITY], cache=cache), blobs))
    assert found == [bytes([n]) * 1000 for n in range(40)]


def write_pieces(writer, data, seed):
    choose, at = random.Random(seed), 0
    while at < len(data):
        size = choose.randrange(1, 60_000)
        writer.write(data[at : at + size])
        at += size


@pytest.mark.parametrize("shared", [True, False])
def test_threads_write_objects_at_once(shared, kernel):
    batch = dc.Batch([IDENTITY.recipient]) if shared else None

    def write(seed):
        sink, data = io.BytesIO(), (NATIVE, COMPRESSED)[seed % 2]
        recipients = [] if shared else [IDENTITY.recipient]
        with dc.ObjectWriter(sink, recipients, batch=batch) as writer:
            write_pieces(writer, data, seed)
        return dc.decrypt(sink.getvalue(), [IDENTITY]) == data

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(write, range(12)))


def test_tasks_write_and_read_objects_at_once(tmp_path):
    async def pieces(data):
        for at in range(0, len(data), 50_000):
            await asyncio.sleep(0)
            yield data[at : at + 50_000]

    async def store(path, data):
        with path.open("wb") as sink, dc.ObjectWriter(sink, [IDENTITY.recipient]) as writer:
            async for piece in pieces(data):
                await asyncio.to_thread(writer.write, piece)
            await asyncio.to_thread(writer.close)

    async def main():
        paths = [tmp_path / str(n) for n in range(6)]
        await asyncio.gather(*(store(path, NATIVE) for path in paths))
        with dc.open(paths[0], [IDENTITY]) as obj:
            return await asyncio.gather(
                *(asyncio.to_thread(obj.frame_bytes, n) for n in range(FRAMES))
            ), [dc.decrypt(path.read_bytes(), [IDENTITY]) for path in paths]

    frames, files = asyncio.run(main())
    assert files == [NATIVE] * 6
    assert frames == list(dc.open(dc.encrypt(NATIVE, [IDENTITY.recipient]), [IDENTITY]).frames)


# ---- broken off -------------------------------------------------------------


def refused(sink):
    with pytest.raises(dc.DamagedError):
        dc.open(sink.getvalue(), [IDENTITY])


class Slow(io.BytesIO):
    def write(self, data):
        time.sleep(0.05)
        return super().write(data)


@pytest.mark.parametrize("after", [0.01, 0.08, 0.2])
def test_a_cancelled_task_leaves_nothing_that_opens(after):
    sink = Slow()

    async def store():
        with dc.ObjectWriter(sink, [IDENTITY.recipient]) as writer:
            while True:
                await asyncio.to_thread(writer.write, bytes(200_000))

    async def main():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(store(), after)

    asyncio.run(main())
    refused(sink)


class Failing(io.BytesIO):
    """Raises at its n-th write, with or without having taken a part, then works again."""

    def __init__(self, at, took):
        super().__init__()
        self.left, self._took = at, took
        self.failed = False

    def write(self, data):
        self.left -= 1
        if self.left == 0:
            super().write(data[: int(self._took * len(data))])
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("took", [0, 0.5, 1])
@pytest.mark.parametrize("share", [0, 0.3, 0.6, 1])
@pytest.mark.parametrize("data", [NATIVE, COMPRESSED], ids=["native", "compressed"])
def test_a_sink_that_failed_once_never_holds_an_object(data, share, took):
    def write(sink):
        writer = dc.ObjectWriter(sink, [IDENTITY.recipient])
        try:
            for start in range(0, len(data), 100_000):
                writer.write(data[start : start + 100_000])
            writer.close()
        except OSError:
            sink.failed = True
        return writer

    whole = Failing(0, 1)
    write(whole)
    assert dc.decrypt(whole.getvalue(), [IDENTITY]) == data
    sink = Failing(1 + round(share * (-whole.left - 1)), took)
    writer = write(sink)
    assert sink.failed
    with pytest.raises(dc.UsageError):
        writer.write(data[:100])
    assert writer.close() == 0
    if share == took == 1:  # all was taken before it raised
        assert dc.decrypt(sink.getvalue(), [IDENTITY]) == data
    else:
        refused(sink)


class Boasting(io.BytesIO):
    def write(self, data):
        super().write(data[: len(data) // 2])
        return len(data)


def test_a_sink_that_writes_less_than_it_says_holds_no_object():
    sink = Boasting()
    with dc.ObjectWriter(sink, [IDENTITY.recipient]) as writer:
        writer.write(NATIVE)
    refused(sink)


class Nothing(io.BytesIO):
    def write(self, data):
        return 0


def test_a_sink_that_takes_nothing_is_an_error():
    with pytest.raises(BlockingIOError):
        dc.ObjectWriter(Nothing(), [IDENTITY.recipient]).close()


def test_a_descriptor_that_would_block_is_an_error_and_loses_nothing_unnoticed():
    receive, send = os.pipe()
    os.set_blocking(send, False)
    with os.fdopen(send, "wb", buffering=0) as sink, os.fdopen(receive, "rb"):
        writer = dc.ObjectWriter(sink, [IDENTITY.recipient])
        with pytest.raises(BlockingIOError):
            writer.write(NATIVE)


def test_a_sink_that_returns_nothing_is_taken_at_its_word_and_may_keep_what_it_gets():
    class Quiet:
        def __init__(self):
            self.taken = []

        def write(self, data):
            self.taken.append(data)

    sink = Quiet()
    with dc.ObjectWriter(sink, [IDENTITY.recipient]) as writer:
        writer.write(NATIVE)
    assert dc.decrypt(b"".join(sink.taken), [IDENTITY]) == NATIVE


def test_two_threads_with_one_writer_do_not_break_the_object():
    sink, pieces = io.BytesIO(), [bytes([n]) * 5000 for n in range(200)]
    with dc.ObjectWriter(sink, [IDENTITY.recipient]) as writer:
        threads = [
            threading.Thread(target=lambda half: [writer.write(p) for p in half], args=(part,))
            for part in (pieces[:100], pieces[100:])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    data = dc.decrypt(sink.getvalue(), [IDENTITY])
    assert sorted(data[at : at + 5000] for at in range(0, len(data), 5000)) == pieces
