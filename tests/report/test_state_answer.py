"""`explain --state` as text and JSON, from literals."""

import json

import pytest

from tcpdoctor.answers.knowledge import PortCount, ProcessCount, StateAnswer, StateHere, Whose, state_answer
from tcpdoctor.facts.deadlines import TICK_SECONDS
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.knowledge.state_pages import find_state, state_keys
from tcpdoctor.report.document import as_json
from tcpdoctor.report.knowledge_text import state_page
from tcpdoctor.report.page import page_text
from tcpdoctor.report.style import PLAIN, Style
from tests.facts.test_state_deadlines import DEFAULTS
from tests.schemas import described

WHO = Identity("box", "6.18.44", 4026531840, None, True, 0)


def answer(key: str = "fin_wait_2", **changed) -> StateAnswer:
    here = StateHere(number=0, complete=True, whose=Whose(), sysctls=DEFAULTS, tick=TICK_SECONDS)
    return state_answer(find_state(key), WHO, 1_795_000_000.0, here._replace(**changed))


MANY = tuple(ProcessCount(100 + number, "worker-with-a-long-name", 29 - number) for number in range(23))


@pytest.mark.parametrize("key", state_keys())
@pytest.mark.parametrize(
    "whose",
    [
        Whose(),
        Whose(
            MANY, held=414, not_held=3, unknown=5, reason="processes of other users are hidden; run as root"
        ),
        Whose(not_held=7, ports=(PortCount(None, 5), PortCount(8080, 2))),
        Missing("sock_diag: permission denied, and /proc/net/tcp: permission denied"),
    ],
)
def test_every_page_fits_80_columns_and_is_plain_text(key, whose):
    text = page_text(
        state_page(answer(key, number=422, whose=whose, complete=Missing("the dump was cut short")), PLAIN),
        PLAIN,
    )
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.isascii()
    assert "\x1b" not in text
    assert "None" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_the_first_line_is_how_many_there_are():
    first, *_ = page_text(state_page(answer(number=23), PLAIN), PLAIN).splitlines()
    assert first == "FIN_WAIT_2 (FIN-WAIT-2 in RFC 9293): 23 sockets here"
    assert page_text(state_page(answer("listen", number=1), PLAIN), PLAIN).startswith(
        "LISTEN: 1 socket here\n"
    )
    assert page_text(state_page(answer("bound", number=2), PLAIN), PLAIN).startswith(
        "bound: 2 sockets here\n"
    )


def test_what_cannot_be_counted_says_why_and_not_zero():
    text = page_text(
        state_page(answer(number=Missing("no netlink here"), whose=Missing("no netlink here")), PLAIN), PLAIN
    )
    assert "number unknown here: no netlink here" in text
    assert "0 sockets" not in text


def test_a_dump_that_was_cut_short_is_a_lower_bound():
    text = page_text(
        state_page(answer(number=23, complete=Missing("the dump was interrupted")), PLAIN), PLAIN
    )
    assert "at least 23 sockets here" in text
    assert "There may be more: the dump was interrupted." in text


def test_the_holders_are_named_the_one_with_the_most_first_and_few_of_them():
    text = page_text(state_page(answer(number=414, whose=Whose(MANY, held=414)), PLAIN), PLAIN)
    flat = " ".join(text.split())
    assert "414 held by 23 processes: worker-with-a-long-name (100) 29, " in flat
    assert "and 18 more." in flat


def test_hidden_owners_are_told_with_the_reason():
    whose = Whose(unknown=17, reason="other users' processes hide their descriptors; run as root")
    text = " ".join(page_text(state_page(answer(number=17, whose=whose), PLAIN), PLAIN).split())
    assert "17 of unknown owner: other users' processes hide their descriptors; run as root." in text


def test_the_deadlines_are_those_of_the_sysctls_here():
    changed = DEFAULTS | {"net.ipv4.tcp_fin_timeout": 65}
    flat = " ".join(page_text(state_page(answer(sysctls=changed), PLAIN), PLAIN).split())
    assert "orphan 10 to 11 s tcp_fin_timeout = 65 (above 60: 2 x (65 - 60) s)" in flat
    assert "held, no SO_KEEPALIVE never by itself" in flat
    orphan = " ".join(page_text(state_page(answer("last_ack"), PLAIN), PLAIN).split())
    assert "orphan 100 to 110 s tcp_orphan_retries = 0 (0 means 8)" in orphan


def test_an_unreadable_sysctl_leaves_the_deadline_open():
    hidden = DEFAULTS | {"net.ipv4.tcp_fin_timeout": Missing("net.ipv4.tcp_fin_timeout: no such sysctl")}
    flat = " ".join(page_text(state_page(answer(sysctls=hidden), PLAIN), PLAIN).split())
    assert "orphan unknown net.ipv4.tcp_fin_timeout: no such sysctl" in flat
    (deadline,) = [item for item in as_json(answer(sysctls=hidden))["deadlines"] if item["case"] == "orphan"]
    assert (deadline["ends"], deadline["low_s"], deadline["high_s"]) == (None, None, None)
    assert set(as_json(answer(sysctls=hidden))["missing"].values()) == {
        "net.ipv4.tcp_fin_timeout: no such sysctl"
    }


def test_the_state_is_marked_without_colour_and_bold_with_it():
    assert "[[FIN_WAIT_2]]" in page_text(state_page(answer(), PLAIN), PLAIN)
    assert "\x1b[1m[[FIN_WAIT_2]]\x1b[0m" in page_text(
        state_page(answer(), PLAIN), Style(color=True, width=80)
    )


KEYS = (
    "schema state name rfc_name host taken_at sockets held not_held owner_unknown sample_of processes "
    "local_ports missing means enter leave ends deadlines assumed_rto_s costs mistaken_for look diagram"
)


@pytest.mark.parametrize("key", state_keys())
def test_json_says_the_same_in_named_fields(key):
    said = as_json(answer(key, number=23, whose=Whose(MANY[:2], held=57, not_held=1)))
    assert " ".join(said) == KEYS
    assert said["schema"] == "tcpdoctor.state/1"
    assert said["state"] == key
    assert said["sockets"] == 23
    assert said["processes"][0] == {"pid": 100, "name": "worker-with-a-long-name", "sockets": 29}
    assert described(json.dumps(said, allow_nan=False)) == said


def test_json_has_seconds_and_null_for_never():
    deadlines = {item["case"]: item for item in as_json(answer())["deadlines"]}
    orphan, idle = deadlines["orphan"], deadlines["held, no SO_KEEPALIVE"]
    assert (orphan["ends"], orphan["low_s"]) == (True, 60.0)
    assert orphan["sysctls"] == {"net.ipv4.tcp_fin_timeout": 60}
    assert (idle["ends"], idle["low_s"], idle["high_s"]) == (False, None, None)


def test_json_says_what_is_missing():
    said = as_json(answer(number=Missing("no netlink"), whose=Missing("no netlink")))
    assert said["sockets"] is None
    assert said["processes"] is None
    nulls = [key for key, value in said.items() if value is None and key != "rfc_name"]
    assert said["missing"] == dict.fromkeys(nulls, "no netlink")
    assert len(nulls) == 7
