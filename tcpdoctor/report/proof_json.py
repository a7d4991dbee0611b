"""`lab prove` for machines."""

from tcpdoctor.answers.proof import Part, Proof, Proven, falls_short, missing_parts
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.report.host import utc

Json = dict[str, JsonValue]


def proof_json(proof: Proof) -> Json:
    """``tcpdoctor.proof/1``: every scenario with what was expected and seen, and the rules without one."""
    return {
        "schema": "tcpdoctor.proof/1",
        "kernel": proof.kernel,
        "taken_at": utc(proof.taken_at),
        "duration_s": round(proof.seconds, 3),
        "holds": not falls_short(proof),
        "scenarios": [_scenario(proven) for proven in proof.scenarios],
        "without_scenario": [{"rule": rule.rule, "reason": rule.reason} for rule in proof.without],
    }


def _scenario(proven: Proven) -> Json:
    return {
        "name": proven.name,
        "rules": list[JsonValue](proven.rules),
        "holds": proven.holds,
        "broken": [_part(part) for part in proven.broken],
        "fixed": [_part(part) for part in proven.cured],
        "falls_short": [] if proven.holds else list[JsonValue](missing_parts(proven)),
        "duration_s": round(proven.seconds, 3),
    }


def _part(part: Part) -> Json:
    return {"what": part.what, "wanted": part.wanted, "seen": part.seen, "holds": part.holds}
