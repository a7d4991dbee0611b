"""What a word means, asked of a namespace with listeners and processes of its own."""

import socket

import pytest

from tcpdoctor.answers.words import Meaning, meaning_of, port_of
from tcpdoctor.errors import QuestionError


def questions(*words: str) -> list[tuple[str, str]]:
    first, others = meaning_of(words)
    return [(one.question, one.value) for one in (first, *others)]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("8080", [("port", "8080")]),
        (":8080", [("port", "8080")]),
        ("*:8080", [("port", "8080")]),
        ("0.0.0.0:8080", [("port", "0.0.0.0:8080")]),
        ("98", [("port", "98"), ("error", "EADDRINUSE")]),
        ("70000", [("pid", "70000")]),
        ("EADDRINUSE", [("error", "EADDRINUSE")]),
        ("Address already in use", [("error", "EADDRINUSE")]),
        ("close-wait", [("state", "close_wait")]),
        ("CLOSE_WAIT", [("state", "close_wait")]),
        ("tcp_fin_timeout", [("sysctl", "net.ipv4.tcp_fin_timeout")]),
        ("SO_REUSEADDR", [("option", "SO_REUSEADDR")]),
        ("TCP_USER_TIMEOUT", [("option", "TCP_USER_TIMEOUT")]),
        ("close-wait-leak", [("rule", "close-wait-leak")]),
        ("db:5432", [("connect", "db:5432")]),
        ("203.0.113.7:443", [("connect", "203.0.113.7:443")]),
    ],
)
def test_a_word_has_one_first_meaning_and_names_the_others(words, asked):
    assert questions(*words.split()) == asked


def test_a_line_of_a_log_names_the_error_and_the_port():
    line = "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)"
    assert questions(*line.split()) == [("error", "EADDRINUSE"), ("port", "80")]


def where_a_server_listens() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    with socket.create_server(("127.0.0.1", 7411)):
        return questions("127.0.0.1:7411"), questions("127.0.0.1:7412")


def test_an_end_of_this_host_is_a_port_where_somebody_listens_and_else_a_connection(in_namespace):
    served, silent = in_namespace(where_a_server_listens)
    assert served == [("port", "127.0.0.1:7411"), ("connect", "127.0.0.1:7411")]
    assert silent == [("connect", "127.0.0.1:7412"), ("port", "127.0.0.1:7412")]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("8080", (None, 8080)),
        (":8080", (None, 8080)),
        ("0.0.0.0:8080", ("0.0.0.0", 8080)),
        ("[::1]:8080", ("::1", 8080)),
        ("localhost:8080", ("127.0.0.1", 8080)),
        ("http", (None, 80)),
    ],
)
def test_the_flag_takes_what_the_word_takes(text, end):
    assert port_of(text) == end


@pytest.mark.parametrize("text", ["0", "65536", ":0", "::1:80", "http:", "-1", "no-such-service", ""])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(QuestionError, match="port"):
        port_of(text)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("clos-wait-leak", "tcpdoctor explain close-wait-leak"),
        ("tcp_fin_timout", "tcpdoctor explain tcp_fin_timeout"),
        ("EADDRINUS", "tcpdoctor explain EADDRINUSE"),
        ("xyzzy", "a word is a port"),
    ],
)
def test_an_unknown_word_gets_the_nearest_or_nothing_rather_than_nonsense(word, hint):
    with pytest.raises(QuestionError, match=hint):
        meaning_of([word])


def test_the_command_that_asks_for_a_meaning_is_whole():
    assert Meaning("error", "EADDRINUSE", "EADDRINUSE").command() == "tcpdoctor explain --error EADDRINUSE"
    assert Meaning("pid", "my app", "x").command() == "tcpdoctor explain --pid 'my app'"
