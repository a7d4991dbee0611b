"""Closing sockets that are too many, and too young to be a finding: too early to tell."""

import contextlib
import json
import os
import socket

from tests.cli.command import tcpdoctor


def with_half_closed(number, *asked):
    """Hold both ends of connections whose server ends have sent a FIN, and ask at once."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 7001), backlog=number))
        for _ in range(number):
            stack.enter_context(socket.create_connection(server.getsockname()))
            accepted, _ = server.accept()
            stack.enter_context(accepted).shutdown(socket.SHUT_WR)
        me = str(os.getpid())
        return [tcpdoctor(*(str(word).replace("ME", me) for word in command)).stdout for command in asked]


def test_a_hundred_young_ones_in_one_process_are_told_beside_ok(in_namespace):
    look, explain = ("check", "--window", "0"), ("explain", "--pid", "ME")
    asked = (look, (*look, "--long"), explain, (*look, "--json"), (*explain, "--json"))
    answers = in_namespace(with_half_closed, 107, *asked)
    for text in (" ".join(answer.split()) for answer in answers[:3]):
        assert text.startswith("OK")
        assert (
            "107 in CLOSE_WAIT, but not 100 of them for 60 s yet: too early to tell; look again then" in text
        )
        assert "107 in FIN_WAIT_2, but not 100 of them for 2 min yet: too early to tell" in text
    for answer in map(json.loads, answers[3:]):
        assert answer["status"] == "ok"
        assert [tuple(one.values()) for one in answer["too_early"]] == [
            ("close-wait-leak", "close_wait", 107, 100, 60.0),
            ("fin-wait-2-held-open", "fin_wait_2", 107, 100, 120.0),
        ]


def beside_a_full_queue(number, *asked):
    """As `with_half_closed`, while a further server accepts nobody."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 7013), backlog=5))
        for _ in range(6):
            stack.enter_context(socket.create_connection(server.getsockname()))
        return with_half_closed(number, *asked)


def test_they_are_told_beside_findings_too(in_namespace):
    (text,) = in_namespace(beside_a_full_queue, 107, ("check", "--window", "0"))
    flat = " ".join(text.split())
    assert "accept queue 6 of 5 on :7013" in flat
    assert "107 in CLOSE_WAIT, but not 100 of them for 60 s yet: too early to tell; look again then" in flat


def test_what_another_finding_says_they_are_is_not_told_again(in_namespace, tmp_path):
    """Both ends of a pair in one process look like a proxy, whose finding is about these sockets."""
    config = tmp_path / "config.toml"
    config.write_text("[rules.proxy-waits-for-one-side.limits]\nmin_age = 0\n")
    (told,) = in_namespace(with_half_closed, 107, ("check", "--window", "0", "--json", "--config", config))
    answer = json.loads(told)
    assert [finding["rule"] for finding in answer["findings"]] == ["proxy-waits-for-one-side"]
    assert answer["too_early"] == []


def test_fewer_are_nothing_to_look_at_again(in_namespace):
    look = ("check", "--window", "0")
    text, told = in_namespace(with_half_closed, 97, look, (*look, "--json"))
    assert "too early" not in text
    assert json.loads(told)["too_early"] == []


def test_a_port_with_very_many_sockets_counts_all_and_tells_its_server_once(in_namespace):
    (text,) = in_namespace(with_half_closed, 97, ("explain", "7001"))
    flat = " ".join(text.split())
    assert "1 LISTEN 127.0.0.1:7001" in flat
    assert "97 FIN_WAIT_2 127.0.0.1:7001" in flat
    assert flat.count("it runs since") == 1
    assert ": /" not in flat.partition(" who ")[2]
