"""The two ends of a lesson's connection: what segments do to their states, and how that is drawn."""

import socket
import struct
import time
from collections import Counter

import pytest

from tcpdoctor.cli.lab import ASCII, UNICODE, pair_lines, shows_utf8
from tcpdoctor.kernel.addresses import LocalAddresses
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint
from tcpdoctor.lab.overheard import (
    ACK,
    ELSEWHERE,
    FIN,
    RST,
    SYN,
    Follower,
    Heard,
    Listening,
    Segment,
    There,
    decode_segment,
    read_there,
)
from tcpdoctor.report.style import PLAIN

CLIENT, SERVER = Endpoint("127.0.0.1", 40001), Endpoint("127.0.0.1", 7001)
NOBODY_KNOWS = LocalAddresses(Missing("not read"), Missing("not read"))


def out(flags, sequence=1, acknowledged=1, data=0, window=512):
    return Segment(CLIENT, SERVER, flags, sequence, acknowledged, window, data)


def back(flags, sequence=1, acknowledged=1, data=0, window=512):
    return Segment(SERVER, CLIENT, flags, sequence, acknowledged, window, data)


HANDSHAKE = (out(SYN, 0), back(SYN | ACK, 0), out(ACK))


def there(client=None, server=None, listening=(7001,), local=NOBODY_KNOWS):
    states = {(CLIENT, SERVER): client, (SERVER, CLIENT): server}
    return There({ends: state for ends, state in states.items() if state}, frozenset(listening), local)


def followed(segments, kernel, *, complete=True):
    follower = Follower()
    follower.hear(Heard(tuple(segments), complete))
    return follower.scene(kernel)


def moves(pair):
    return [(passed.what, passed.client, passed.server) for passed in pair.passed]


def test_a_handshake_moves_both_ends():
    pair = followed(HANDSHAKE, there("ESTABLISHED", "ESTABLISHED"))
    assert moves(pair) == [
        ("SYN", "SYN_SENT", "LISTEN"),
        ("SYN ACK", "SYN_SENT", "SYN_RECV"),
        ("ACK", "ESTABLISHED", "ESTABLISHED"),
    ]
    assert pair.states == ("ESTABLISHED", "ESTABLISHED")


@pytest.mark.parametrize(
    ("closing", "states"),
    [
        (
            [out(FIN | ACK), back(ACK, acknowledged=2), back(FIN | ACK, acknowledged=2), out(ACK, 2, 2)],
            [
                ("FIN", "FIN_WAIT_1", "ESTABLISHED"),
                ("ACK", "FIN_WAIT_2", "CLOSE_WAIT"),
                ("FIN", "FIN_WAIT_2", "LAST_ACK"),
                ("ACK", "TIME_WAIT", "CLOSED"),
            ],
        ),
        (
            [out(FIN | ACK), back(FIN | ACK, acknowledged=2), out(ACK, 2, 2)],
            [
                ("FIN", "FIN_WAIT_1", "ESTABLISHED"),
                ("FIN", "FIN_WAIT_2", "LAST_ACK"),
                ("ACK", "TIME_WAIT", "CLOSED"),
            ],
        ),
        (
            [out(FIN | ACK), back(FIN | ACK), out(ACK, 2, 2), back(ACK, 2, 2)],
            [
                ("FIN", "FIN_WAIT_1", "ESTABLISHED"),
                ("FIN", "FIN_WAIT_1", "FIN_WAIT_1"),
                ("ACK", "CLOSING", "FIN_WAIT_2"),
                ("ACK", "TIME_WAIT", "TIME_WAIT"),
            ],
        ),
        ([back(RST | ACK)], [("RST", "CLOSED", "CLOSED")]),
    ],
    ids=["one after the other", "at once answered", "both at the same time", "reset"],
)
def test_an_end_moves_both_ends(closing, states):
    pair = followed([*HANDSHAKE, *closing], there(states[-1][1], states[-1][2]))
    assert moves(pair)[3:] == states


def test_sequence_numbers_wrap():
    top = 2**32 - 1
    closing = [out(FIN | ACK, sequence=top, data=1), back(ACK, acknowledged=1)]
    pair = followed([*HANDSHAKE, *closing], there("FIN_WAIT_2", "CLOSE_WAIT"))
    assert moves(pair)[-2:] == [
        ("data FIN", "FIN_WAIT_1", "ESTABLISHED"),
        ("ACK", "FIN_WAIT_2", "CLOSE_WAIT"),
    ]


def test_segments_of_a_kind_are_one_line_and_mere_acknowledgements_none():
    transfer = [
        out(ACK, 1, data=500),
        back(ACK, acknowledged=501),
        out(ACK, 501, data=500),
        back(ACK, window=0),
    ]
    pair = followed([out(SYN, 0), *HANDSHAKE, *transfer], there("ESTABLISHED", "ESTABLISHED"))
    assert [(passed.what, passed.number, passed.data) for passed in pair.passed] == [
        ("SYN", 2, 0),
        ("SYN ACK", 1, 0),
        ("ACK", 1, 0),
        ("data", 2, 1000),
        ("window 0", 1, 0),
    ]


def test_the_kernel_has_the_last_word_and_a_scene_begins_with_it():
    follower = Follower()
    follower.hear(Heard((*HANDSHAKE, out(FIN | ACK)), complete=True))
    pair = follower.scene(there("FIN_WAIT_1", "SYN_RECV"))
    assert moves(pair)[-1][1:] == ("FIN_WAIT_1", "ESTABLISHED")
    assert pair.states == ("FIN_WAIT_1", "SYN_RECV")
    later = follower.scene(there("CLOSED", "SYN_RECV"))
    assert (later.before, later.passed, later.states) == (
        ("FIN_WAIT_1", "SYN_RECV"),
        (),
        ("CLOSED", "SYN_RECV"),
    )


def test_what_was_heard_in_part_only_is_not_told_where_it_does_not_explain_the_states():
    told = followed(HANDSHAKE, there("ESTABLISHED", "ESTABLISHED"), complete=False)
    assert len(told.passed) == 3
    untold = followed(HANDSHAKE, there("TIME_WAIT", None), complete=False)
    assert (untold.passed, untold.states) == ((), ("TIME_WAIT", "CLOSED"))


def test_of_an_end_that_is_elsewhere_nothing_is_claimed():
    local = LocalAddresses((), ())
    pair = followed([out(SYN, 0)], there("SYN_SENT", None, (), local))
    assert pair.states == ("SYN_SENT", ELSEWHERE)
    lines = pair_lines(pair, PLAIN, ASCII)
    assert [line.split()[-1] for line in lines[2:]] == [ELSEWHERE, ELSEWHERE]


def test_without_connections_nothing_is_drawn():
    assert followed([], there()) is None
    itself = Segment(CLIENT, CLIENT, SYN, 0, 0, 512, 0)
    assert followed([itself], there()) is None


@pytest.mark.parametrize("width", [40, 41, 80, 100])
@pytest.mark.parametrize("strokes", [ASCII, UNICODE], ids=["ascii", "unicode"])
def test_a_drawing_fits_and_its_columns_stand_below_each_other(width, strokes):
    closing = [out(FIN | ACK), back(ACK, acknowledged=2), *[back(ACK, data=100_000)] * 23]
    pair = followed([*HANDSHAKE, *closing], there("FIN_WAIT_2", "CLOSE_WAIT"))
    lines = pair_lines(pair, PLAIN._replace(width=width), strokes)
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.split()[0] in ("CLOSED", "SYN_SENT", "ESTABLISHED", "FIN_WAIT_2")]
    begins = {line.rindex(line.split()[-1]) for line in rows}
    assert len(rows) >= 5
    assert len(begins) == 1
    assert all(line.isascii() for line in lines) == (strokes is ASCII)


def test_ipv6_and_headers_with_options_are_decoded():
    tcp = struct.pack(">HHIIBBHHH", 40001, 7001, 5, 9, 8 << 4, SYN | ACK, 0, 0, 0) + bytes(12) + b"abc"
    source = socket.inet_pton(socket.AF_INET6, "::1")
    packet = struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64) + source * 2 + tcp
    assert decode_segment(packet) == Segment(
        Endpoint("::1", 40001), Endpoint("::1", 7001), SYN | ACK, 5, 9, 0, 3
    )
    assert [decode_segment(packet[:length]) for length in (0, 1, 39, 59)] == [None] * 4


def overhear() -> Counter[tuple[str, str]]:
    """Twenty-three connections whose clients have closed: both ends as they were followed."""
    listening, follower = Listening(), Follower()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        held = []
        for _ in range(23):
            client = socket.create_connection(server.getsockname())
            held += [client, server.accept()[0]]
            client.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + 10  # servers are in CLOSE_WAIT before their acknowledgement is heard
        while Counter(read_there().states.values()) != {"CLOSE_WAIT": 23, "FIN_WAIT_2": 23}:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        follower.hear(listening.take())
        pair = follower.scene(read_there())
    listening.close()
    assert pair is not None
    assert pair.alike == 23
    return Counter([pair.states, (pair.passed[-1].client, pair.passed[-1].server)])


def test_what_passes_on_the_real_kernel_explains_its_states(in_namespace):
    assert in_namespace(overhear) == {("FIN_WAIT_2", "CLOSE_WAIT"): 2}


@pytest.mark.parametrize(
    ("environment", "is_utf8"),
    [
        ({"LANG": "en_US.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, False),
        ({"LC_CTYPE": "en_US.UTF-8", "LANG": "C"}, True),
        ({}, False),
    ],
    ids=str,
)
def test_a_locale_says_whether_it_is_utf8(environment, is_utf8):
    assert shows_utf8(environment) is is_utf8
