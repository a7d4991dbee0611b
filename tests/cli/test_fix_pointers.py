"""`check` and `explain --port` point to `fix`; `check` tells machines the plan."""

import json
import re
import socket

from tcpdoctor.lab.namespace import write_sysctl
from tests.cli.command import tcpdoctor

PORT = 33013


def sick():
    for name in ("net.ipv4.tcp_sack", "net.ipv4.tcp_syncookies"):
        write_sysctl(name, 0)
    server = socket.create_server(("127.0.0.1", PORT))
    text = tcpdoctor("check", "--window", "0")
    document = tcpdoctor("check", "--window", "0", "--format", "json")
    page = tcpdoctor("check", "--window", "0", "--format", "html")
    plan = tcpdoctor("fix", "--window", "0", "--format", "json")
    port = tcpdoctor("explain", "--port", PORT)
    long = tcpdoctor("explain", "--port", PORT, "--long")
    server.close()
    return (
        text.stdout,
        json.loads(document.stdout),
        page.stdout,
        json.loads(plan.stdout),
        port.stdout,
        long.stdout,
    )


def test_check_and_explain_point_to_the_plan(in_namespace):
    text, document, page, plan, port, long = in_namespace(sick)
    assert " 3 settings at once, undone unless you keep them: tcpdoctor fix\n" in text
    assert document["plan"] == plan["changes"]
    assert [change["key"] for change in plan["changes"]] == [
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_sack",
        "net.ipv4.tcp_syncookies",
    ]
    assert '<details class="finding" id="plan"><summary>3 settings at once' in page
    folded = "<summary>How each was computed"
    assert "(sack-off)" in page[page.index('id="plan"') : page.index(folded)]
    assert "<dt>computed</dt>" in page[page.index(folded) :]
    assert re.search(r"^ check INFO port (\d+) may be taken while it restarts$", port, re.MULTILINE), port
    assert "tcpdoctor fix listener-port-in-ephemeral-range" in port
    assert "By a setting that undoes itself: tcpdoctor fix listener-port-in-ephemeral-range" in " ".join(
        long.split()
    )


def healthy():
    text = tcpdoctor("check", "--window", "0")
    return text.stdout, json.loads(tcpdoctor("check", "--window", "0", "--format", "json").stdout)


def test_a_healthy_host_has_no_plan(in_namespace):
    text, document = in_namespace(healthy)
    assert "tcpdoctor fix" not in text
    assert document["plan"] == []
