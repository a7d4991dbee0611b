"""`check` searches for owners only where something hangs on them, and says the same as if it had for all."""

import contextlib
import functools
import socket

import pytest

from tcpdoctor.answers.check import diagnose_on_demand
from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.diagnosis.library import Override, with_override
from tcpdoctor.kernel.live import add_owners, take_samples
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Held, Owned
from tcpdoctor.kernel.states import TcpState
from tests.live.test_live_snapshot import close_wait


def rules(**limits):
    """The shipped rules, those about leaks with these limits."""
    changed = Override(True, None, {name: float(value) for name, value in limits.items()})
    return [
        with_override(rule, changed, "test") if rule.id == "close-wait-leak" else rule
        for rule in load_rules().rules
    ]


def told(diagnosis):
    return [(each.rule, each.label, each.severity) for each in diagnosis.findings], {
        each.rule for each in diagnosis.unchecked
    }


def leaks(known):
    """Those that no process of the machine changes: one near its limit of descriptors may hold any socket."""
    return [rule for rule in known if rule.id != "descriptors-nearly-used-up"]


patiently = functools.partial(add_owners, seconds=60.0)
"""What `check` gives up after a second is not searched for to the end on a busy machine."""


def with_all_owners(samples):
    """The same look, so that nothing but the search differs."""
    return samples._replace(after=patiently(samples.after, Owned))


@pytest.mark.parametrize("number", [0, 7, 23])
def test_the_diagnosis_is_that_of_a_look_with_all_owners(in_namespace, number):
    def look():
        with close_wait(number) if number else contextlib.nullcontext():
            known = rules(min_sockets=11, min_age=0)
            seen = take_samples(0.0, owners=None)
            scarce, _ = diagnose_on_demand(known, seen, add_owners=patiently)
            _, samples = diagnose_on_demand(leaks(known), seen, add_owners=patiently)
            return told(scarce), told(diagnose(known, with_all_owners(seen))), samples.after

    scarce, full, after = in_namespace(look)
    assert scarce == full
    assert any(rule == "close-wait-leak" for rule, _, _ in scarce[0]) == (number >= 11)
    owners = {type(row.owner) for row in after.detail[TcpState.CLOSE_WAIT].connections}
    assert owners == ({Held} if number >= 11 else {Missing} if number else set())


def test_a_listener_with_a_full_queue_is_named_with_its_owner(in_namespace):
    def look():
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 8080), backlog=2))
            for _ in range(3):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(server.getsockname())
            known, seen = load_rules().rules, take_samples(0.0, owners=None)
            scarce, samples = diagnose_on_demand(known, seen, add_owners=patiently)
            full = diagnose(known, with_all_owners(seen))
            return told(scarce), told(full), [row.owner for row in samples.after.listeners]

    scarce, full, owners = in_namespace(look)
    assert scarce == full
    if any(rule.startswith("accept-queue") for rule, _, _ in scarce[0]):
        assert [type(owner) for owner in owners] == [Held]
