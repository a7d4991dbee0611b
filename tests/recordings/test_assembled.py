"""Printed forms become the look that rules are asked about, and what they do not tell is never 0."""

from tcpdoctor.answers.rules import shipped_texts
from tcpdoctor.answers.states import state_readings
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.library import load_library
from tcpdoctor.facts.vocabulary import Scope
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Endpoint, Held, Holder, NotHeld
from tcpdoctor.kernel.states import COUNTED_STATES, TcpState, Timer
from tcpdoctor.recordings.assembled import Circumstances, assemble
from tcpdoctor.recordings.forms import read_forms
from tcpdoctor.recordings.pasted import Pasted, PastedSocket

NOT = Missing("not printed")
HERE, THERE = Endpoint("127.0.0.1", 8080), Endpoint("127.0.0.1", 40_001)
BARE = PastedSocket(
    "tcp", TcpState.ESTABLISHED, 4, HERE, THERE, None, 0, 0, NOT, NOT, NOT, NOT, NOT, NOT, NOT, NOT, NOT,
    NOT, NOT, NOT,
)  # fmt: skip
TOLD = Circumstances(taken_at=1_700_000_000.0)


def look_at(*sockets, **parts):
    listing = Pasted("ss", sockets=sockets, every_socket=True)._replace(**parts)
    return assemble([listing], TOLD).samples.after


def test_a_complete_listing_counts_what_it_does_not_show_as_none_and_bound_sockets_as_not_known():
    readings = state_readings(look_at(BARE).census)
    assert readings[TcpState.ESTABLISHED] == 1
    assert readings[TcpState.TIME_WAIT] == 0
    assert isinstance(readings[TcpState.BOUND], Missing)


def test_of_a_part_of_a_listing_absent_states_are_not_known():
    readings = state_readings(look_at(BARE, every_socket=NOT).census)
    assert readings[TcpState.ESTABLISHED] == 1
    unknown = [state for state in COUNTED_STATES if isinstance(readings[state], Missing)]
    assert len(unknown) == len(COUNTED_STATES) - 1


def test_without_timers_a_fin_wait_2_without_owner_is_neither_a_leak_nor_an_orphan():
    held = BARE._replace(
        state=TcpState.FIN_WAIT_2, owner=Held((Holder(44, "web client", 7, -1),)), remote=Endpoint("::1", 3)
    )
    detail = look_at(BARE._replace(state=TcpState.FIN_WAIT_2), held).detail[TcpState.FIN_WAIT_2]
    assert [row.owner.holders[0].pid for row in detail.connections] == [44]
    assert detail.total == 2
    assert "ss -tanoempi" in detail.reason


def test_with_timers_a_minisocket_is_known_to_have_no_owner():
    stub = BARE._replace(state=TcpState.FIN_WAIT_2, timer=Timer.TIME_WAIT, expires=57.0)
    detail = look_at(stub).detail[TcpState.FIN_WAIT_2]
    assert [row.owner for row in detail.connections] == [NotHeld()]
    assert detail.connections[0].inode == 0


def test_two_listings_of_one_moment_complete_each_other():
    poor = BARE._replace(state=TcpState.CLOSE_WAIT, receive_queue=NOT)
    rich = poor._replace(receive_queue=20, owner=Held((Holder(37, "orders-api", 6, -1),)))
    forms = [
        Pasted("netstat", sockets=(rich,), every_socket=True),
        Pasted("ss", sockets=(poor,), every_socket=True),
    ]
    found = assemble(forms, TOLD)
    (row,) = found.samples.after.detail[TcpState.CLOSE_WAIT].connections
    assert (row.receive_queue, row.owner.holders[0].name) == (20, "orders-api")
    assert found.source.forms == ("netstat", "ss")


def test_who_was_not_accepted_is_open_where_neither_inodes_nor_processes_are_told():
    ends = [f"CLOSE-WAIT 1 0 127.0.0.1:7001 127.0.0.1:{port}" for port in range(40_001, 40_018)]
    listing = "\n".join(
        ["State Recv-Q Send-Q Local Peer Process", "LISTEN 17 128 0.0.0.0:7001 0.0.0.0:*", *ends]
    )
    (form,) = read_forms(f"$ ss -tan\n{listing}\n", "paste")
    look = assemble([form], Circumstances(taken_at=1.0)).samples.after
    assert "ss -tanoempi" in look.untold["close_wait.not_accepted_ages"]
    (idle,) = read_forms(f"$ ss -tan\n{listing.replace('LISTEN 17', 'LISTEN 0')}\n", "paste")
    told = assemble([idle], Circumstances(taken_at=1.0)).samples.after.untold
    assert "close_wait.not_accepted" not in told, "its queue is empty: they were accepted"


def test_of_a_part_no_rule_about_single_sockets_is_called_clear():
    listing = "State Recv-Q Send-Q Local Peer\nCLOSE-WAIT 1 0 127.0.0.1:7001 127.0.0.1:40001\n"
    counts = "     17 CLOSE_WAIT\n     22 ESTABLISHED\n"
    library = load_library(shipped_texts())
    about_many = {rule.id for rule in library.rules if rule.scope is not Scope.HOST and not rule.initial_only}
    for text in (listing, counts):
        samples = assemble(read_forms(text, "paste"), Circumstances(taken_at=1.0)).samples
        found = diagnose(library.rules, samples, library.most)
        assert about_many - {unchecked.rule for unchecked in found.unchecked} == set()


def test_where_addresses_are_cut_nothing_is_said_of_destinations():
    cut = look_at(BARE, whole_addresses=Missing("addresses are cut"))
    assert cut.untold["destination"] == "addresses are cut"
    whole = Pasted("ss", sockets=(BARE,), every_socket=True)
    both = assemble([Pasted("netstat", sockets=(BARE,), every_socket=NOT, whole_addresses=NOT), whole], TOLD)
    assert "destination" not in both.samples.after.untold


def test_counts_do_not_make_a_part_of_a_listing_whole():
    part = Pasted("ss", sockets=(BARE,), every_socket=NOT)
    counted = Pasted("counts", counts={TcpState.ESTABLISHED: 22}, every_socket=True)
    readings = state_readings(assemble([part, counted], TOLD).samples.after.census)
    assert isinstance(readings[TcpState.CLOSE_WAIT], Missing)
