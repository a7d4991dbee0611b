"""`explain --port` as one JSON object, schema tcpdoctor.port/1."""

from collections.abc import Mapping

from tcpdoctor.diagnosis.bind import Attempt
from tcpdoctor.diagnosis.finding import Diagnosis, JsonValue
from tcpdoctor.diagnosis.port import PortAnswer, PortSocket, custody_of, first_holder, peer_of
from tcpdoctor.diagnosis.port_advice import Advice, flag_value, verdict, why
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.port_evidence import PortEvidence
from tcpdoctor.kernel.reading import Missing, Reading
from tcpdoctor.kernel.snapshot import Connection, Detail, Held, Holder, Listener
from tcpdoctor.kernel.sockopts import SocketOptions
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_json import finding_json
from tcpdoctor.report.host import host_json, states_json, utc

SCHEMA = "tcpdoctor.port/1"


def port_json(
    answer: PortAnswer, advice: Advice, diagnosis: Diagnosis, who: Identity, taken_at: float
) -> dict[str, JsonValue]:
    """Return the object; keys that were added to its first form stand at the end of each object.

    What is not known is null, with the reason in ``missing``.
    """
    evidence = answer.evidence
    states, missing = port_states(evidence)
    return {
        "schema": SCHEMA,
        "port": answer.target.port,
        "address": answer.target.address,
        "family": "ipv4" if answer.target.family == 4 else "ipv6",
        "protocol": "tcp",
        "host": host_json(who.host, who.kernel, who.namespace, who.namespace_name),
        "taken_at": utc(taken_at),
        "bind": _bind_json(answer),
        "advice": list(advice.do),
        "listeners": _listeners_json(evidence),
        "states": states_json(states),
        "as_local": _total(evidence.local, evidence.listeners),
        "as_remote": _total(evidence.remote, ()),
        "findings": [finding_json(finding) for finding in diagnosis.findings],
        "verdict": verdict(answer),
        "wrong_advice": list(advice.avoid),
        "unchecked": [{"rule": rule.rule, "reason": rule.reason} for rule in diagnosis.unchecked],
        "missing": {**missing, **{f"bind.{n}": reason for n, reason in enumerate(answer.unknowns)}},
    }


def port_states(evidence: PortEvidence) -> tuple[dict[TcpState, Reading[int]], dict[str, JsonValue]]:
    """Return how many sockets have the port as their local one, by state, and why numbers are missing."""
    from tcpdoctor.kernel.states import COUNTED_STATES

    counts: dict[TcpState, Reading[int]] = {}
    for state in COUNTED_STATES:
        if state is TcpState.LISTEN:
            listeners = evidence.listeners
            counts[state] = listeners if isinstance(listeners, Missing) else len(listeners)
        elif isinstance(evidence.local, Missing):
            counts[state] = evidence.local
        elif state in evidence.local:
            counts[state] = evidence.local[state].total
        else:
            counts[state] = Missing("this kernel does not list bound sockets")
    missing: dict[str, JsonValue] = {
        f"states.{state.key}": count.reason for state, count in counts.items() if isinstance(count, Missing)
    }
    return counts, missing


def _total(
    detail: Reading[Mapping[TcpState, Detail]], listeners: Reading[tuple[Listener, ...]]
) -> int | None:
    if isinstance(detail, Missing) or isinstance(listeners, Missing):
        return None
    return sum(one.total for one in detail.values()) + len(listeners)


def _bind_json(answer: PortAnswer) -> dict[str, JsonValue]:
    return {
        "attempts": [_attempt_json(attempt) for attempt in answer.attempts],
        "probed": any(attempt.probed for attempt in answer.attempts),
        "cause": answer.cause,
        "free_in_s": None if answer.free_in is None else round(answer.free_in, 3),
        "blockers_total": answer.blockers_total,
        "blockers": [_blocker_json(socket, answer) for socket in answer.blockers],
        "uid": answer.wanted.uid,
        "obstacle": None if answer.obstacle is None else answer.obstacle.why,
        "listen_probed": any(attempt.listen_probed for attempt in answer.attempts),
    }


def _attempt_json(attempt: Attempt) -> dict[str, JsonValue]:
    return {
        "options": list(attempt.options),
        "bind": attempt.bind,
        "listen": attempt.listen,
        "certain": attempt.certain,
    }


def _blocker_json(socket: PortSocket, answer: PortAnswer) -> dict[str, JsonValue]:
    row, evidence = socket.row, answer.evidence
    custody = custody_of(row, evidence)
    peer = peer_of(row, evidence)
    return {
        "state": socket.state.key,
        "local": str(row.local),
        "remote": str(row.remote) if isinstance(row, Connection) and row.remote.port else None,
        "owner": _owner_json(first_holder(row), evidence),
        "reuseaddr": flag_value(socket, "reuseaddr"),
        "reuseport": flag_value(socket, "reuseport"),
        "timer": "timewait" if socket.existing.minisocket else None,
        "expires_s": None if socket.leaves is None else round(socket.leaves.low, 3),
        "why": why(socket, evidence),
        "cause": socket.cause,
        "owner_missing": custody.hidden,
        "holders": [_owner_json(holder, evidence) for holder in custody.holders],
        "socket_unit": None if custody.first_process else custody.socket_unit,
        "inherited": custody.inherited,
        "peer": None if peer is None else _peer_json(peer, evidence),
    }


def _peer_json(peer: Connection, evidence: PortEvidence) -> dict[str, JsonValue]:
    return {
        "local": str(peer.local),
        "state": peer.state.key,
        "owner": _owner_json(first_holder(peer), evidence),
    }


def _owner_json(holder: Holder | None, evidence: PortEvidence) -> dict[str, JsonValue] | None:
    if holder is None:
        return None
    process = evidence.processes.get(holder.pid)
    return {
        "pid": holder.pid,
        "name": holder.name,
        "fd": holder.fd,
        "uid": holder.uid,
        "unit": None if process is None or isinstance(process.unit, Missing) else process.unit,
        "container": None if process is None or isinstance(process.container, Missing) else process.container,
    }


def _listeners_json(evidence: PortEvidence) -> list[JsonValue] | None:
    if isinstance(evidence.listeners, Missing):
        return None
    return [
        {
            "local": str(row.local),
            "accept_queue": row.accept_queue,
            "accept_limit": None if isinstance(row.accept_limit, Missing) else row.accept_limit,
            "owner": _owner_json(first_holder(row), evidence),
            "options": options_json(evidence.options.get(row.inode)),
            "drops": None if isinstance(row.drops, Missing) else row.drops,
            "v6only": row.v6only,
            "owner_missing": row.owner.reason if isinstance(row.owner, Missing) else None,
            "other_holders": [_owner_json(h, evidence) for h in row.owner.holders[1:]]
            if isinstance(row.owner, Held)
            else [],
        }
        for row in evidence.listeners
    ]


def options_json(options: Reading[SocketOptions] | None) -> dict[str, JsonValue] | None:
    """Return a socket's options by name, those that it lacks left out; None where it could not be asked.

    Units are the kernel's: TCP_USER_TIMEOUT in milliseconds, buffers in bytes, the rest in seconds.
    """
    if options is None or isinstance(options, Missing):
        return None
    found: dict[str, JsonValue] = {}
    for name, value in options.items():
        if isinstance(value, Missing):
            continue
        found[name] = dict(value._asdict()) if isinstance(value, tuple) else value
    return found
