"""The rules of bind(), one by one; tests/live/test_bind_prediction.py asks the kernel."""

import pytest

from tcpdoctor.diagnosis.bind import (
    ATTEMPTS,
    NO,
    UNKNOWN,
    YES,
    Existing,
    Flag,
    Obstacle,
    Wanted,
    alike,
    four,
    overlaps,
    possible_conflicts,
    predict,
    predict_udp,
    udp_meeting,
)
from tcpdoctor.kernel.states import TcpState


def wanted(address="0.0.0.0", *, family=4, v6only=False, uid=0, device=0) -> Wanted:
    return Wanted(family, address, v6only, uid, device)


def old(address="0.0.0.0", **changes) -> Existing:
    family = 6 if ":" in address else 4
    plain = Existing(TcpState.TIME_WAIT, family, address, NO, 0, 0, False, NO, NO)
    return plain._replace(**changes)


def answers(new: Wanted, *existing: Existing) -> list[tuple[str, bool]]:
    return [(a.bind, a.certain) for a in predict(new, existing, None)]


def binds(new: Wanted, *existing: Existing) -> list[str]:
    return [bind for bind, _ in answers(new, *existing)]


@pytest.mark.parametrize(
    ("reuseaddr", "reuseport", "expected"),
    [
        (NO, NO, ["EADDRINUSE", "EADDRINUSE", "EADDRINUSE", "EADDRINUSE"]),
        (YES, NO, ["EADDRINUSE", "ok", "EADDRINUSE", "ok"]),
        (NO, YES, ["EADDRINUSE", "EADDRINUSE", "ok", "ok"]),
        (YES, YES, ["EADDRINUSE", "ok", "ok", "ok"]),
    ],
)
def test_a_connection_lets_in_who_shares_an_option_with_it(reuseaddr, reuseport, expected):
    assert binds(wanted(), old(reuseaddr=reuseaddr, reuseport=reuseport)) == expected


def test_reuseaddr_never_helps_against_a_listener():
    assert binds(wanted(), old(state=TcpState.LISTEN, reuseaddr=YES)) == ["EADDRINUSE"] * 4


def test_reuseport_is_for_one_user_unless_only_a_minisocket_is_left():
    theirs = old(state=TcpState.LISTEN, reuseport=YES, uid=33)
    assert binds(wanted(uid=0), theirs)[2] == "EADDRINUSE"
    assert binds(wanted(uid=33), theirs)[2] == "ok"
    assert binds(wanted(uid=0), old(reuseport=YES, uid=33, minisocket=True))[2] == "ok"


@pytest.mark.parametrize("state", [TcpState.NEW_SYN_RECV, TcpState.CLOSE])
def test_request_sockets_and_closed_ones_hold_no_port(state):
    assert binds(wanted(), old(state=state)) == ["ok"] * 4


def test_a_whole_socket_in_syn_recv_holds_its_port():
    assert binds(wanted(), old(state=TcpState.SYN_RECV))[0] == "EADDRINUSE"


def test_a_uid_that_may_be_hidden_leaves_doubt_with_reuseport_only():
    theirs = old(reuseport=YES, uid=0, uid_known=False)
    assert [a.certain for a in predict(wanted(uid=0), [theirs], None)] == [True, True, False, False]


def test_a_socket_that_may_have_let_go_of_its_port_leaves_doubt():
    assert [a.certain for a in predict(wanted(), [old(surely_holds=False)], None)] == [False] * 4


def test_a_device_that_was_not_told_matters_to_who_asks_for_one():
    theirs = old(device=0, device_known=False)
    assert [a.certain for a in predict(wanted(device=2), [theirs], None)] == [False] * 4
    assert [a.certain for a in predict(wanted(device=0), [theirs], None)] == [True, True, False, False]


def test_a_mapped_wildcard_is_passed_by_some_kernels():
    theirs = old("::ffff:0.0.0.0")
    ours = wanted("::ffff:127.0.0.1", family=6)
    assert [(a.bind, a.certain) for a in predict(ours, [theirs], None)] == [("EADDRINUSE", False)] * 4
    assert predict(wanted("0.0.0.0"), [theirs], None)[0].certain


def doubted(new: Wanted, *existing: Existing) -> list[bool]:
    return [not certain for _, certain in answers(new, *existing)]


_WITH_REUSEPORT, _NEVER = [False, False, True, True], [False] * 4
LISTENING = old(state=TcpState.LISTEN, uid=8)


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_nobody_the_kernel_could_remember_was_let_in_beside_a_usual_listener(address):
    assert doubted(wanted(address, uid=7), LISTENING) == _NEVER
    assert doubted(wanted(address, uid=7), LISTENING._replace(reuseaddr=YES)) == _NEVER
    assert doubted(wanted(address, uid=7), LISTENING._replace(reuseport=YES)) == _NEVER


def test_an_option_may_have_been_taken_back_from_who_shared_the_port_by_it():
    assert doubted(wanted(uid=8), LISTENING) == _WITH_REUSEPORT
    assert doubted(wanted(uid=7), old(uid=8)) == _WITH_REUSEPORT, "it let others in by SO_REUSEADDR"
    found = predict(wanted(uid=8), [LISTENING], None)
    assert [a.only_memory for a in found] == _WITH_REUSEPORT
    assert {a.bind for a in found} == {"EADDRINUSE"}


def test_where_buckets_remember_reuseaddr_it_may_have_been_taken_back_until_somebody_listens():
    def kept(*existing):
        return [a.certain for a in predict(wanted(uid=7), existing, None, keeps_reuseaddr=True)]

    assert kept(old(uid=8)) == [True, False, False, False]
    assert kept(old(uid=8), LISTENING) == [True] * 4
    assert kept(old(uid=8, accepted=True)) == [True, True, False, False], "its listener called listen()"
    assert kept() == [True] * 4


def test_one_who_shared_the_port_on_another_device_may_be_remembered():
    assert doubted(wanted(uid=7), LISTENING._replace(device=2)) == _WITH_REUSEPORT


def test_one_who_shared_the_port_by_reuseaddr_may_be_remembered_but_where_it_listens():
    shares = old(state=TcpState.BOUND, reuseaddr=YES, uid=8)
    assert doubted(wanted(uid=7), shares) == [False, False, True, False], "with both it meets no conflict"
    assert doubted(wanted(uid=7), shares, LISTENING) == _NEVER


def test_a_connection_with_reuseport_may_be_of_a_listener_of_another_user():
    accepted = old(state=TcpState.ESTABLISHED, reuseport=YES, uid=8)
    assert doubted(wanted(uid=7), accepted) == _WITH_REUSEPORT
    assert doubted(wanted(uid=7), accepted, LISTENING) == _NEVER


def test_a_wildcard_that_was_let_in_beside_one_address_may_be_taken_for_another_wildcard():
    six = old("::1", state=TcpState.LISTEN, v6only=YES)
    assert doubted(wanted("::", family=6), six) == _WITH_REUSEPORT, "0.0.0.0 passed it, and its address is 0"
    theirs = six._replace(uid=8)
    assert doubted(wanted("::1", uid=7, family=6, v6only=True), theirs) == _NEVER
    assert doubted(wanted("::", uid=7, family=6), theirs) == _WITH_REUSEPORT
    assert doubted(wanted("::", family=6), LISTENING) == _WITH_REUSEPORT, "a v6only :: passed it"
    assert doubted(wanted("::", family=6), LISTENING, six) == _WITH_REUSEPORT


def test_udp_sockets_share_by_both_having_the_same_option():
    def udp(asked, *others):
        return [(a.bind, a.certain) for a in predict_udp(asked, others, None)]

    in_use, ok = ("EADDRINUSE", True), ("ok", True)
    assert udp(wanted(), old()) == [in_use] * 4
    assert udp(wanted(), old(reuseaddr=YES)) == [in_use, ok, in_use, ok]
    assert udp(wanted(uid=7), old(reuseport=YES, uid=7)) == [in_use, in_use, ok, ok]
    assert udp(wanted(uid=7), old(reuseport=YES, uid=8)) == [in_use] * 4
    order_decides = udp(wanted(uid=7), old(reuseport=YES, uid=7), old())
    assert order_decides == [in_use, in_use, ("EADDRINUSE", False), ("EADDRINUSE", False)]


def test_of_many_udp_sockets_only_those_on_the_same_address_and_the_wildcard_are_surely_compared():
    many = [old(f"10.0.0.{place}") for place in range(11)]
    assert not predict_udp(wanted(), many, None)[0].certain
    assert predict_udp(wanted("10.0.0.7"), many, None)[0].certain
    assert predict_udp(wanted(), [*many, old()], None)[0].certain
    assert predict_udp(wanted(), many[:7], None)[0].certain


def test_a_socket_of_another_device_is_out_of_the_way():
    assert binds(wanted(device=2), old(device=3)) == ["ok"] * 4
    assert binds(wanted(device=0), old(device=3))[0] == "EADDRINUSE"


def test_where_nobody_tells_of_which_vrf_a_device_is_it_is_not_certain():
    assert answers(wanted(), old(device=3, vrf_known=False))[0] == ("EADDRINUSE", False)
    assert answers(wanted(device=3)._replace(vrf_known=False), old())[0] == ("EADDRINUSE", False)
    assert answers(wanted(), old())[0] == ("EADDRINUSE", True)


def test_a_socket_of_another_vrf_is_out_of_the_way():
    assert binds(wanted(device=0), old(device=3, vrf=3)) == ["ok"] * 4
    assert binds(wanted(device=2)._replace(vrf=3), old(device=3, vrf=3)) == ["ok"] * 4
    assert binds(wanted(device=3)._replace(vrf=3), old(device=3, vrf=3))[0] == "EADDRINUSE"


@pytest.mark.parametrize(
    ("new", "existing", "meet"),
    [
        (wanted("127.0.0.1"), old("127.0.0.2"), False),
        (wanted("127.0.0.1"), old("0.0.0.0"), True),
        (wanted("127.0.0.1"), old("::ffff:127.0.0.1"), True),
        (wanted("::ffff:127.0.0.1", family=6), old("127.0.0.1"), True),
        (wanted("127.0.0.1"), old("::"), True),
        (wanted("127.0.0.1"), old("::", v6only=YES), False),
        (wanted("127.0.0.1"), old("::1"), False),
        (wanted("::", family=6), old("127.0.0.1"), True),
        (wanted("::", family=6, v6only=True), old("127.0.0.1"), False),
        (wanted("::1", family=6, v6only=True), old("0.0.0.0"), False),
        (wanted("::1", family=6, v6only=True), old("::"), True),
        (wanted("::1", family=6, v6only=True), old("::2"), False),
    ],
)
def test_which_addresses_meet(new, existing, meet):
    assert overlaps(new, existing) is meet


def test_all_of_ipv4_meets_even_a_specific_ipv6_address_that_is_not_v6only():
    assert overlaps(wanted("0.0.0.0"), old("::1"))
    assert not overlaps(wanted("0.0.0.0"), old("::1", v6only=YES))
    assert not overlaps(wanted("::ffff:0.0.0.0", family=6), old("::1"))


def test_hidden_flags_do_not_matter_for_a_server_that_sets_none():
    hidden = old(minisocket=True, reuseaddr=UNKNOWN, reuseport=UNKNOWN)
    assert answers(wanted(), hidden) == [
        ("EADDRINUSE", True),
        ("EADDRINUSE", False),
        ("EADDRINUSE", False),
        ("EADDRINUSE", False),
    ]


def test_one_blocker_that_is_known_decides_whatever_the_others_hide():
    hidden = old(minisocket=True, reuseaddr=UNKNOWN, reuseport=UNKNOWN)
    assert answers(wanted(uid=7), hidden, LISTENING) == [("EADDRINUSE", True)] * 4


def test_a_hidden_flag_of_a_listener_of_another_user_cannot_change_anything():
    theirs = old(state=TcpState.LISTEN, uid=33, reuseaddr=UNKNOWN, reuseport=UNKNOWN)
    assert answers(wanted(uid=1000), theirs) == [("EADDRINUSE", True)] * 4
    assert answers(wanted(uid=33), theirs)[2] == ("EADDRINUSE", False)


def test_what_is_likely_is_predicted_and_not_promised():
    child = old(state=TcpState.ESTABLISHED, reuseaddr=Flag(value=True, known=False), reuseport=NO)
    assert answers(wanted(), child)[1] == ("ok", False)


def test_a_hidden_v6only_is_doubted_only_where_it_decides():
    hidden = old("2001:db8::5", v6only=UNKNOWN)
    assert answers(wanted("0.0.0.0"), hidden)[0] == ("EADDRINUSE", False)
    assert answers(wanted("127.0.0.1"), hidden)[0] == ("ok", True)


def test_an_ok_is_uncertain_where_sockets_may_be_missing_and_a_refusal_is_not():
    assert [a.certain for a in predict(wanted(), [], None, complete=False)] == [False] * 4
    assert predict(wanted(), [old()], None, complete=False)[0].certain


def test_an_obstacle_answers_before_any_socket_does():
    obstacle = Obstacle("EACCES", "privileged-port", "why")
    found = predict(wanted(), [old()], obstacle)
    assert [(a.options, a.bind, a.listen, a.certain) for a in found] == [
        (options, "EACCES", None, True) for options in ATTEMPTS
    ]


def test_listen_answers_as_bind_did_and_is_not_reached_where_bind_failed():
    assert [a.listen for a in predict(wanted(), [old(reuseaddr=YES)], None)] == [None, "ok", None, "ok"]


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (4, "10.0.0.1", "10.0.0.1"),
        (6, "::ffff:10.0.0.1", "10.0.0.1"),
        (6, "::1", None),
        (6, "::ffff:1", None),
        (6, "::10.0.0.1", None),
    ],
)
def test_the_ipv4_address_behind_a_socket(family, address, expected):
    assert four(family, address) == expected


def test_every_other_single_address_is_met_alike():
    addresses = [
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "10.0.0.1",
        "10.0.0.2",
        "::ffff:10.0.0.1",
        "fd00::1",
        "fd00::2",
    ]
    kinds = [
        old(address, reuseaddr=flag, v6only=only, device=device, device_known=bool(device))
        for address in addresses
        for flag in (YES, NO, UNKNOWN)
        for only in (YES, NO, UNKNOWN)
        for device in (0, 3)
    ]
    for address in addresses:
        for v6only in (False, True):
            ours = wanted(address, family=6 if ":" in address else 4, v6only=v6only, device=2)
            for kind, met in alike(ours, kinds).items():
                assert [*map(list, (possible_conflicts(ours, options, met) for options in ATTEMPTS))] == [
                    *map(list, (possible_conflicts(ours, options, kind) for options in ATTEMPTS))
                ]
                assert udp_meeting(ours, (), met) == udp_meeting(ours, (), kind)
    many = [old(f"10.1.0.{place}") for place in range(97)]
    assert {*alike(wanted("10.0.0.1"), many).values()} == {many[0]}
