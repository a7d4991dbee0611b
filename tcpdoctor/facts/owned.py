"""Which facts say who holds sockets, and which sockets' owners each of them needs.

Finding owners is what costs most on a host with very many descriptors, so it is done for those sockets only
on which a verdict or a text hangs.
"""

from collections.abc import Mapping

from tcpdoctor.kernel.snapshot import Owned

_CLOSE_WAIT, _FIN_WAIT_2 = frozenset({Owned.CLOSE_WAIT}), frozenset({Owned.FIN_WAIT_2})
_LISTENER, _SUSPECT = frozenset({Owned.LISTENER}), frozenset({Owned.SUSPECT})

OWNED_FACTS: Mapping[str, frozenset[Owned]] = {
    "close_wait.owned": _CLOSE_WAIT,
    "close_wait.eof_read": _CLOSE_WAIT,
    "close_wait.eof_unread": _CLOSE_WAIT,
    "close_wait.unread_data": _CLOSE_WAIT,
    "close_wait.owned_ages": _CLOSE_WAIT,
    "close_wait.oldest_owned_age": _CLOSE_WAIT,
    "close_wait.peers": _CLOSE_WAIT,
    "close_wait.descriptors": _CLOSE_WAIT,
    "fin_wait_2.owned": _FIN_WAIT_2,
    "fin_wait_2.owned_ages": _FIN_WAIT_2,
    "fin_wait_2.oldest_owned_age": _FIN_WAIT_2,
    "fin_wait_2.peers": _FIN_WAIT_2,
    "fin_wait_2.descriptors": _FIN_WAIT_2,
    "unread.owned": _SUSPECT,
    "unread.owned_ages": _SUSPECT,
    "unread.oldest_owned_age": _SUSPECT,
    "unread.owned_bytes": _SUSPECT,
    "unread.peers": _SUSPECT,
    "unread.descriptors": _SUSPECT,
    "listener.owner": _LISTENER,
    "listener.pid": _LISTENER,
    "destination.owners": frozenset({Owned.SYN_SENT}),
    "destination.unanswered_owners": _SUSPECT,
    "ports.bound_owners": frozenset({Owned.BOUND}),
    "unanswered.incoming_owners": _SUSPECT,
    "unanswered.by_size_owners": _SUSPECT,
    "zero_window.owners": _SUSPECT,
    "idle.unprobed_owners": _SUSPECT,
    "self_connected.owners": _SUSPECT,
    "queues.large_owners": frozenset({*Owned} - {Owned.LISTENER, Owned.BOUND}),
}
"""Every fact that says who holds sockets, or how many one process holds."""
