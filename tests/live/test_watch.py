"""Watch on real sockets: growth is counted, findings come and go, and owners are remembered."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.answers.watching import Watcher
from tcpdoctor.kernel.live import take_snapshot
from tcpdoctor.kernel.pulse import pulse_of, take_pulse
from tcpdoctor.kernel.states import TcpState
from tests.cli.command import tcpdoctor
from tests.live.crowd import connect, serve

SECONDS = 50


def leak(server, count):
    """So many more sockets in CLOSE_WAIT that this process does not close."""
    pairs = connect(server, count)
    for client, _ in pairs:
        client.close()
    return [kept for _, kept in pairs]


def rows_by_key(rows):
    return {row.key: row for row in rows}


def look_until(watcher, condition, gap=0.05):
    """Look until a record is as it should become; the last one is returned."""
    deadline = time.monotonic() + SECONDS
    while True:
        watch = watcher.look()
        if condition(watch):
            return watch
        assert time.monotonic() < deadline, watch
        time.sleep(gap)


def own_close_wait(watch):
    row = rows_by_key(watch.owners).get(f"owner {os.getpid()}")
    return None if row is None or row.ended is not None else row.close_wait


def watch_a_leak():
    server, kept = serve(), []
    watcher = Watcher(load_rules(), 0.2)
    kept += leak(server, 23)
    seen = [look_until(watcher, lambda watch: own_close_wait(watch) == 23)]
    for number in (30, 37):
        kept += leak(server, 7)
        seen.append(look_until(watcher, lambda watch, number=number: own_close_wait(watch) == number))
    grown = rows_by_key(seen[-1].owners)[f"owner {os.getpid()}"]
    states = rows_by_key(seen[-1].states)
    for one in kept:
        one.close()
    gone = look_until(watcher, lambda watch: own_close_wait(watch) is None)
    return (
        states["state close_wait"].now,
        states["state close_wait"].per_minute > 0,
        grown.per_minute > 0,
        grown.until_limit is not None,
        rows_by_key(gone.owners)[f"owner {os.getpid()}"].ended is not None,
        rows_by_key(gone.states)["state close_wait"].now,
    )


def test_a_leak_of_23_that_grows_by_7_is_seen_to_grow_and_to_go(in_namespace):
    assert in_namespace(watch_a_leak) == (37, True, True, True, True, 0)


def living(watch):
    return [row.finding.rule for row in watch.findings if row.ended is None]


def watch_a_full_queue():
    """A listener that accepts nothing: its finding comes, and goes when it accepts."""
    server = serve(backlog=2)
    watcher = Watcher(load_rules(), 60.0)  # with so much time the rules are asked at each look
    before = living(watcher.look())
    clients = [socket.socket() for _ in range(3)]
    for client in clients:
        client.connect(server.listener.getsockname())
    ill = look_until(watcher, lambda watch: "accept-queue-full" in living(watch))
    for _ in clients:
        server.listener.accept()[0].close()
    well = look_until(watcher, lambda watch: "accept-queue-full" not in living(watch))
    row = rows_by_key(ill.listeners)[f"listener {server.address}:{server.port} 0"]
    new = [found.new for found in ill.findings if found.finding.rule == "accept-queue-full"]
    told = [event.text.split(" (")[0] for event in well.events]
    return before, living(ill), new, row.full, row.queue, told


def test_a_finding_comes_and_goes_and_both_are_told(in_namespace):
    before, rules, new, full, queue, told = in_namespace(watch_a_full_queue)
    assert "accept-queue-full" not in before
    assert "accept-queue-full" in rules
    assert new == [True]
    assert (full, queue) == (True, 3)
    assert "accept-queue-full began" in told
    assert "accept-queue-full ended" in told


def watch_destinations():
    server = serve()
    connect(server, 11)
    watcher = Watcher(load_rules(), 0.2)
    before = watcher.look().destinations[0]
    connect(server, 13)
    rows = before, watcher.look().destinations[0]
    return [(row.peer == f"127.0.0.1:{server.port}", row.used) for row in rows]


def test_ports_towards_a_destination_are_counted(in_namespace):
    assert in_namespace(watch_destinations) == [(True, 11), (True, 24)]


def light_and_whole():
    server = serve()
    pairs, kept = connect(server, 17), leak(server, 19)
    look = take_snapshot(owners=None)
    light, whole = take_pulse(look), pulse_of(look)
    held = [{state: sorted(rows) for state, rows in each.held.items()} for each in (light, whole)]
    counted = [each.census.by_state for each in (light, whole)]
    return (
        held[0] == held[1],
        counted[0] == counted[1],
        len(pairs),
        len(light.held[TcpState.CLOSE_WAIT]),
        len(kept),
    )


def test_a_light_look_says_what_a_whole_one_says(in_namespace):
    assert in_namespace(light_and_whole) == (True, True, 17, 19, 19)


def watch_a_holder_that_ends():
    """Sockets that pass to another process: the one that ended is not named any more."""
    server = serve()
    kept = leak(server, 5)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.read(reader, 1)
        os._exit(0)
    for one in kept:
        one.close()
    server.listener.close()
    watcher = Watcher(load_rules(), 0.2)

    def named(watch):
        return {row.pid: row.close_wait for row in watch.owners if row.ended is None}

    held = named(look_until(watcher, lambda watch: child in named(watch)))
    os.write(writer, b"!")
    os.waitpid(child, 0)
    look_until(watcher, lambda watch: child not in named(watch))
    return held[child]


def test_a_process_that_ended_holds_nothing_any_more(in_namespace):
    assert in_namespace(watch_a_holder_that_ends) == 5


LINE = re.compile(
    r"\d\d:\d\d:\d\d estab=\d+ tw=\d+/(-|[+-]\d+) cw=\d+/(-|[+-]\d+) fw2=\d+ syn=\d+ "
    r"findings=\d+ worst=[a-z0-9-]+"
)


def test_in_a_pipe_it_prints_as_many_lines_as_were_asked_for_and_ends_with_0():
    for options in ((), ("--plain",)):
        answer = tcpdoctor("watch", *options, "--interval", "0.2", "--count", "3")
        assert (answer.returncode, answer.stderr) == (0, "")
        lines = answer.stdout.splitlines()
        assert len(lines) == 3
        assert all(LINE.fullmatch(line) for line in lines), lines


def started(*options):
    return subprocess.Popen(
        [sys.executable, "-m", "tcpdoctor", "watch", "--interval", "0.2", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_an_interrupt_ends_it_with_0_and_without_a_word():
    with started() as running:
        assert LINE.fullmatch(running.stdout.readline().rstrip())
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=SECONDS)
    assert (running.returncode, said) == (0, "")


def test_a_reader_that_has_seen_enough_ends_it():
    with started() as running:
        first = list(itertools.islice(running.stdout, 2))
        running.stdout.close()
        running.wait(timeout=SECONDS)
        assert (len(first), running.returncode, running.stderr.read()) == (2, 0, "")


def test_lines_come_at_once_and_not_when_a_buffer_is_full():
    with started() as running:
        assert running.stdout.readline()
        assert running.poll() is None
        running.terminate()
        running.wait(timeout=SECONDS)
