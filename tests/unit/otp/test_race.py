"""Many processes, one database."""

import multiprocessing
from collections import Counter

import otp_race
from otp_world import other_than

from dicomcrypt.otp.tables import codes, sa

PROCESSES = 10


def race(target, arguments, expected):
    """Run target(*arguments, ..., barrier, results) in processes; return what they put down, and
    how often. expected: how much it is."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["otp_race", "dicomcrypt.otp.home"])
    barrier, results = context.Barrier(len(arguments)), context.Queue()
    started = [context.Process(target=target, args=(*args[0], barrier, results, *args[1:]))
               for args in arguments]
    for process in started:
        process.start()
    found = Counter(results.get(timeout=100) for _ in range(expected))
    for process in started:
        process.join(100)
    assert [process.exitcode for process in started] == [0] * len(started)
    assert results.empty()
    results.close()
    results.join_thread()
    return found


def no_waits(world):
    """So that nothing but tries and uses decides."""
    path = world.folder / "otp.toml"
    path.write_text(path.read_text() + "\n[limits]\ntry_waits = []\ncode_waits = []\n"
                    "person_checks = 100000\nperson_codes = 100000\n")
    world.restart()


def test_of_a_hundred_right_tries_exactly_one_gets_through(world):
    no_waits(world)
    token = world.anna()
    answer = world.send(token)
    each = 100 // PROCESSES
    found = race(otp_race.try_code, [((str(world.folder), world.now, token, [answer] * each),)] *
                 PROCESSES, 100)
    assert sum(found.values()) == 100
    assert found["right"] == 1
    assert world.home.links.all()[0]["left"] == 999


def test_of_a_hundred_tries_five_are_compared(world):
    no_waits(world)
    token = world.anna()
    answer = world.send(token)
    wrong = [other_than(answer)] * (100 // PROCESSES)
    each = ((str(world.folder), world.now, token, wrong),)
    found = race(otp_race.try_code, [each] * PROCESSES, 100)
    assert found == {"NoIdentityError": 100}
    with world.home.context.store.transaction() as tx:
        assert tx.first(sa.select(codes.c.tries)).tries == 0
    found = race(otp_race.try_code, [((str(world.folder), world.now, token, [answer]),)], 1)
    assert found == {"NoIdentityError": 1}


def test_of_forty_codes_asked_for_ten_are_made(world):
    no_waits(world)
    token = world.anna()
    found = race(otp_race.ask_for_codes, [((str(world.folder), world.now, token, 4),)] * PROCESSES,
                 40)
    assert found == {"made": 10, "refused": 30}
    with world.home.context.store.transaction() as tx:
        states = Counter(row.state for row in tx.execute(sa.select(codes.c.state)))
    assert states == {"live": 1, "void": 9}


def test_each_code_is_delivered_once(world, tmp_path):
    tokens = [world.anna()] + [world.link("anna") for _ in range(9)]
    for token in tokens:
        world.service.request_code("anna", token=token)
    lines = tmp_path / "lines"
    each = ((str(world.folder), world.now), str(lines))
    found = race(otp_race.deliver, [each] * PROCESSES, PROCESSES)
    assert sum(number * times for number, times in found.items()) == 10
    assert len(set(lines.read_text().split())) == len(lines.read_text().split()) == 10
