"""Where an event's fields lie is read from tracefs; rings of processors, names of processes, last numbers."""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpdoctor.kernel.addresses import address_text, raw_address
from tcpdoctor.kernel.perf_ring import Exited, Forked, Named, ProcessNames, parse_processors
from tcpdoctor.kernel.tracepoints import (
    RESET_SENT,
    STATE,
    ResetSent,
    StateChange,
    _decoder,
    _filter,
    decode_messages,
    parse_format,
    parse_reasons,
)

HEAD = """\
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

"""
STATE_FORMAT = f"""\
name: inet_sock_set_state
ID: 2287
format:
{HEAD}\
	field:const void * skaddr;	offset:8;	size:8;	signed:0;
	field:int oldstate;	offset:16;	size:4;	signed:1;
	field:int newstate;	offset:20;	size:4;	signed:1;
	field:__u16 sport;	offset:24;	size:2;	signed:0;
	field:__u16 dport;	offset:26;	size:2;	signed:0;
	field:__u16 family;	offset:28;	size:2;	signed:0;
	field:__u16 protocol;	offset:30;	size:2;	signed:0;
	field:__u8 saddr[4];	offset:32;	size:4;	signed:0;
	field:__u8 daddr[4];	offset:36;	size:4;	signed:0;
	field:__u8 saddr_v6[16];	offset:40;	size:16;	signed:0;
	field:__u8 daddr_v6[16];	offset:56;	size:16;	signed:0;

print fmt: "family=%s"
"""
RESET_5_10 = f"""\
name: tcp_send_reset
ID: 1294
format:
{HEAD}\
	field:const void * skbaddr;	offset:8;	size:8;	signed:0;
	field:const void * skaddr;	offset:16;	size:8;	signed:0;
	field:int state;	offset:24;	size:4;	signed:1;
	field:__u16 sport;	offset:28;	size:2;	signed:0;
	field:__u16 dport;	offset:30;	size:2;	signed:0;
	field:__u8 saddr[4];	offset:32;	size:4;	signed:0;
	field:__u8 daddr[4];	offset:36;	size:4;	signed:0;
	field:__u8 saddr_v6[16];	offset:40;	size:16;	signed:0;
	field:__u8 daddr_v6[16];	offset:56;	size:16;	signed:0;

print fmt: "sport=%hu"
"""
RESET_6_18 = f"""\
name: tcp_send_reset
ID: 2280
format:
{HEAD}\
	field:const void * skbaddr;	offset:8;	size:8;	signed:0;
	field:const void * skaddr;	offset:16;	size:8;	signed:0;
	field:int state;	offset:24;	size:4;	signed:1;
	field:enum sk_rst_reason reason;	offset:28;	size:4;	signed:0;
	field:__u8 saddr[28];	offset:32;	size:28;	signed:0;
	field:__u8 daddr[28];	offset:60;	size:28;	signed:0;

print fmt: "reason=%s", REC->state ? __print_symbolic(REC->state, {{ 1, "TCP_ESTABLISHED" }}) : "UNKNOWN", \
__print_symbolic(REC->reason, {{ 0, "NOT_SPECIFIED" }}, {{ 11, "TCP_ABORT_ON_CLOSE" }})
"""
LOCAL, REMOTE = raw_address("10.0.0.9"), raw_address("2001:db8::5")


def decoded(name, text, data):
    decode = _decoder(name, parse_format(text), text)
    assert decode is not None
    return decode(b"??" + data, 2, 7, 811, 812)


def state_bytes(flags: int = 0, protocol: int = 6) -> bytes:
    head = struct.pack("=HBBi", 2287, flags, 0, 811)
    ports = struct.pack("=QiiHHHH", 0xA0, 1, 4, 8080, 40_000, 10, protocol)
    return head + ports + bytes(8) + LOCAL + REMOTE


def test_a_change_of_state_is_read_where_the_format_says():
    event = decoded(STATE, STATE_FORMAT, state_bytes())
    assert event == StateChange(7, 0xA0, 1, 4, LOCAL, 8080, REMOTE, 40_000, 811, 812)


@pytest.mark.parametrize("flags", [0x08, 0x10, 0x18])
def test_in_an_interrupt_the_task_that_was_there_did_nothing(flags):
    assert decoded(STATE, STATE_FORMAT, state_bytes(flags)).pid == 0


def test_what_is_not_tcp_is_left_out():
    assert decoded(STATE, STATE_FORMAT, state_bytes(protocol=132)) is None


def test_fields_of_another_size_are_not_guessed():
    text = STATE_FORMAT.replace("offset:8;	size:8;", "offset:8;	size:4;")
    assert _decoder(STATE, parse_format(text), text) is None


def test_a_reset_has_its_ends_on_every_kernel_and_its_reason_on_some():
    old = struct.pack("=HBBiQQiHH", 1294, 0, 0, 0, 1, 0xA0, 1, 8080, 40_000) + bytes(8) + LOCAL + REMOTE
    ends = (LOCAL, 8080, REMOTE, 40_000)
    assert decoded(RESET_SENT, RESET_5_10, old) == ResetSent(7, 0xA0, "", ends)
    four = struct.pack("=H", 2) + struct.pack(">H", 8080) + bytes((10, 0, 0, 9)) + bytes(20)
    six = struct.pack("=H", 10) + struct.pack(">H", 40_000) + bytes(4) + REMOTE + bytes(4)
    new = struct.pack("=HBBiQQiI", 2280, 0, 0, 0, 1, 0xA0, 1, 11) + four + six
    assert decoded(RESET_SENT, RESET_6_18, new) == ResetSent(7, 0xA0, "TCP_ABORT_ON_CLOSE", ends)


def test_names_of_reasons_are_not_those_of_states():
    assert parse_reasons(RESET_6_18) == {0: "NOT_SPECIFIED", 11: "TCP_ABORT_ON_CLOSE"}
    assert parse_reasons(RESET_5_10) == {}


def test_the_kernel_leaves_out_other_ports_and_protocols():
    assert _filter(STATE, parse_format(STATE_FORMAT), 80) == "protocol==6&&(sport==80||dport==80)"
    assert _filter(RESET_SENT, parse_format(RESET_6_18), 80) == ""


@pytest.mark.parametrize("text", ["10.0.0.5", "::1", "2001:db8::5", "fe80::1"])
def test_an_address_is_the_same_as_text_and_as_bytes(text):
    assert address_text(raw_address(text)) == text


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-3\n", (0, 1, 2, 3)),
        ("0,2-3,31\n", (0, 2, 3, 31)),
        ("5", (5,)),
        ("\n", ()),
    ],
)
def test_processors_have_gaps_where_some_are_offline(text, numbers):
    assert parse_processors(text) == numbers


def test_a_number_that_passes_to_another_process_loses_its_name():
    names = ProcessNames()
    gone = 2**22 + 7  # above every pid
    names.learn(Named(1, gone, "first"))
    assert names.name(gone) == "first"
    names.learn(Exited(2, gone))
    assert names.name(gone) is None
    names.learn(Forked(3, gone, os.getpid()))
    assert names.name(gone) == names.name(os.getpid())
    names.learn(Named(4, gone, "second"))
    assert names.name(gone) == "second"


def test_a_thread_of_the_kernel_and_who_was_never_seen_are_nobody():
    names = ProcessNames()
    assert names.name(2) is None  # kthreadd, or nobody in a PID namespace of its own
    assert names.name(2**22 + 9) is None


@given(st.binary(max_size=2_000), st.integers(0, 90), st.integers(0, 2**16 - 1))
def test_no_bytes_make_the_reader_of_messages_fail(data, place, word):
    head = struct.pack("=IHHII", len(data) + 88, 20, 0, 0, 0)
    message = bytearray(head + bytes(72) + data)
    if place + 2 <= len(message):
        message[place : place + 2] = struct.pack("=H", word)
    for numbers in decode_messages(message, len(message)):
        assert numbers.sent >= 0
