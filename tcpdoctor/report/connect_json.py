"""`explain --connect` as one JSON object, schema tcpdoctor.connect/1."""

from tcpdoctor.answers.connect import ConnectReport
from tcpdoctor.diagnosis.connect import connect_advice, connect_avoid, connect_verdict
from tcpdoctor.diagnosis.finding import JsonValue
from tcpdoctor.kernel.connect_evidence import NoRoute, Route
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.report.host import host_json, utc

SCHEMA = "tcpdoctor.connect/1"


def connect_json(report: ConnectReport) -> dict[str, JsonValue]:
    """Return the object of that schema; what is not known is null, with the reason in ``missing``."""
    journey, scene, answer, host = report.journey, report.scene, report.answer, report.host
    missing: dict[str, JsonValue] = {}
    if isinstance(scene.reuse, Missing):
        missing["connect.time_wait_counts"] = scene.reuse.reason
    if journey.source is None:
        missing["source"] = "the kernel chooses none, because no route leads there"
    if report.hidden:
        missing["owners"] = "; ".join(f"{number} sockets: {why}" for why, number in report.hidden.items())
    return {
        "schema": SCHEMA,
        "host": host_json(host.host, host.kernel, host.namespace, host.namespace_name),
        "taken_at": utc(report.taken_at),
        "source": journey.source,
        "destination": journey.where,
        "summary": connect_verdict(journey, scene, answer, listens=report.listens_here),
        "connect": _connect(report),
        "bind_then_connect": {
            "bind": answer.bind_first,
            "free": answer.bind_first_free,
        },
        "range": [scene.ports.low, scene.ports.high],
        "route": _route(report, missing),
        "listens_here": report.listens_here,
        "other_addresses": list(journey.others),
        "owners": [
            {"pid": holder.pid, "name": holder.name, "uid": holder.uid, "sockets": number}
            for holder, number in report.holders.items()
        ],
        "held_by_no_process": report.unheld,
        "advice": list(connect_advice(journey, scene, answer)),
        "does_not_help": list(connect_avoid(journey, answer)),
        "doubts": list(answer.doubts),
        "missing": missing,
    }


def _connect(report: ConnectReport) -> dict[str, JsonValue]:
    answer, reuse = report.answer, report.scene.reuse
    return {
        "verdict": answer.verdict,
        "certain": answer.certain,
        "usable_ports": answer.usable,
        "used": answer.used,
        "free": answer.free,
        "free_perhaps": answer.doubtful,
        "used_by_state": {state.key: number for state, number in answer.used_by_state.items()},
        "lost_to_bound_sockets": answer.lost,
        "time_wait_counts": None if isinstance(reuse, Missing) else not reuse.allowed,
        "time_wait_reusable": answer.reusable,
        "next_free_in_s": None if answer.next_free is None else round(answer.next_free, 3),
    }


def _route(report: ConnectReport, missing: dict[str, JsonValue]) -> JsonValue:
    match report.journey.route:
        case Route() as route:
            return {**route._asdict(), "error": None}
        case NoRoute() as none:
            return {"source": None, "interface": None, "gateway": None, "kind": None, "error": none.errno}
        case Missing(reason):
            missing["route"] = reason
    return None
