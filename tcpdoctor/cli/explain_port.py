"""`tcpdoctor explain --port`: look, predict, ask the kernel if wanted, print."""

import socket
import time

from tcpdoctor.cli.output import Output, emit, emit_json, style_of
from tcpdoctor.diagnosis.bind import ATTEMPTS, Target, parse_target
from tcpdoctor.diagnosis.finding import Diagnosis
from tcpdoctor.diagnosis.port import answer, with_probes
from tcpdoctor.diagnosis.port_advice import advise
from tcpdoctor.kernel.namespaces import Identity, read_identity
from tcpdoctor.kernel.port_evidence import PortEvidence, Probe, probe_bind, read_port_evidence
from tcpdoctor.kernel.reading import Missing, Reading

_NUMBERS = {"SO_REUSEADDR": socket.SO_REUSEADDR, "SO_REUSEPORT": socket.SO_REUSEPORT}


def answer_port(port: int, address: str | None, *, probe: bool, probe_listen: bool, output: Output) -> None:
    """Say whether a server can bind the port, who holds it, until when, and what to do.

    Without `probe` and `probe_listen` nothing is bound.

    Raises:
        QuestionError: The port or the address is none.
    """
    interfaces = {name: index for index, name in socket.if_nameindex()} if "%" in (address or "") else {}
    target = parse_target(address, port, interfaces)
    who, taken_at = read_identity(), time.time()
    evidence = read_port_evidence(port)
    found = answer(target, evidence)
    diagnosis = _diagnose(evidence, who, taken_at)
    if probe or probe_listen:
        found = with_probes(found, _probe(target, listen=probe_listen))
    if output.format == "json":
        from tcpdoctor.report.port_json import port_json

        report = port_json(found, advise(found), diagnosis, who, taken_at)
        emit_json(report, output)
    else:
        from tcpdoctor.report.port_text import port_text

        emit(port_text(found, advise(found), diagnosis, style_of(output)), output)


def _diagnose(evidence: PortEvidence, who: Identity, taken_at: float) -> Diagnosis:
    """Ask the rules about this port; a port that nobody uses needs none of them."""
    if not _is_used(evidence):
        return Diagnosis((), (), 0)
    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.diagnosis.evaluate import diagnose_port
    from tcpdoctor.kernel.port_evidence import port_snapshot

    return diagnose_port(load_rules().rules, port_snapshot(evidence, who, taken_at))


def _is_used(evidence: PortEvidence) -> bool:
    if isinstance(evidence.local, Missing) or isinstance(evidence.remote, Missing) or evidence.listeners:
        return True
    return any(detail.total for side in (evidence.local, evidence.remote) for detail in side.values())


def _probe(target: Target, *, listen: bool) -> list[Reading[Probe]]:
    family = socket.AF_INET if target.family == 4 else socket.AF_INET6
    return [
        probe_bind(family, target.socket_address, tuple(_NUMBERS[name] for name in options), listen=listen)
        for options in ATTEMPTS
    ]
