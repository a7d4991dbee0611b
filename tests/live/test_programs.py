"""Programs of eBPF that decide about sockets: attached, their effect foretold, and the kernel asked."""

import ctypes
import errno
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tcpdoctor.answers.connect import Client, look_at_connection, predict_from_here
from tcpdoctor.answers.port import PortQuestion, look_at_port
from tcpdoctor.diagnosis.port import Target
from tcpdoctor.diagnosis.port import answer as bind_answer
from tcpdoctor.kernel.listing import lists_bound_sockets
from tcpdoctor.kernel.port_evidence import read_port_evidence
from tcpdoctor.kernel.programs import sign_of_programs
from tcpdoctor.kernel.reading import Missing
from tests.conftest import CHECKOUT
from tests.live.provoke_opening import lose_capabilities
from tests.live.test_holders import group

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="attaching programs takes root")

_BPF, _LOAD, _ATTACH, _LINK_CREATE = 321, 5, 8, 28
_OF_PACKETS, _OF_SOCKETS, _OF_ADDRESSES, _OF_LOOKUPS = 8, 9, 18, 30
"""BPF_PROG_TYPE_CGROUP_SKB, _CGROUP_SOCK, _CGROUP_SOCK_ADDR and _SK_LOOKUP."""
_INGRESS, _CONNECT4, _POST_BIND4, _SK_LOOKUP = 0, 10, 12, 36


def bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    whole = ctypes.create_string_buffer(attributes, 144)
    answered = int(libc.syscall(_BPF, command, whole, 144))
    if answered < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answered


def program_of(kind: int, hook: int, answers: int) -> int:
    """A program that answers a constant: 0 refuses, 1 lets pass."""
    code = struct.pack("=BBhiBBhi", 0xB7, 0, 0, answers, 0x95, 0, 0, 0)
    kept = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    at = [ctypes.addressof(one) for one in kept]
    return bpf(_LOAD, struct.pack("=IIQQIIQII16sII", kind, 2, *at, 0, 0, 0, 0, 0, b"", 0, hook))


def refuse(group: Path, kind: int, hook: int) -> None:
    """Attach a program that refuses to a control group."""
    try:
        where = os.open(group, os.O_RDONLY)
        bpf(_ATTACH, struct.pack("=IIII", where, program_of(kind, hook, 0), hook, 0))
        os.close(where)
    except OSError as error:
        pytest.skip(f"no program can be attached: {error.strerror}")


def asked_in(group: Path, kind: int, hook: int) -> tuple[Any, ...]:
    """What is foretold in a control group whose program refuses, and what comes of it."""
    refuse(group, kind, hook)
    server = socket.create_server(("127.0.0.1", 7001))
    (group / "cgroup.procs").write_text("0")
    connect = predict_from_here("127.0.0.1:7001", Client())[2]
    bind = bind_answer(Target(4, "0.0.0.0", 0, 7002), read_port_evidence(7002))
    with server, socket.socket() as client, socket.socket() as other:
        connected = client.connect_ex(("127.0.0.1", 7001))
        try:
            other.bind(("0.0.0.0", 7002))
        except OSError as error:
            bound = error.errno
        else:
            bound = 0
    plain = bind.attempts[0]
    return (connect.verdict, connect.certain, connected), (plain.bind, plain.certain, bound), bind.unknowns


def test_where_a_program_of_the_control_group_decides_nothing_is_certain(in_namespace):
    with group("programs") as where:
        connect, bind, unknowns = in_namespace(asked_in, where, _OF_ADDRESSES, _CONNECT4)
        assert connect == ("ok", False, errno.EPERM)
        assert (bind, unknowns) == (("ok", True, 0), ())
    with group("programs") as where:
        connect, bind, unknowns = in_namespace(asked_in, where, _OF_SOCKETS, _POST_BIND4)
        assert connect == ("ok", True, 0)
        assert bind == ("ok", False, errno.EPERM)
        assert "programs of eBPF decide over bind() too (post_bind4:" in unknowns[0]


def behind_a_lookup() -> tuple[Any, ...]:
    before = predict_from_here("127.0.0.1:7001", Client())[2]
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        program = program_of(_OF_LOOKUPS, _SK_LOOKUP, 1)
        bpf(_LINK_CREATE, struct.pack("=IIII", program, namespace, _SK_LOOKUP, 0))
    except OSError as error:
        pytest.skip(f"no program can be attached: {error.strerror}")
    after = predict_from_here("127.0.0.1:7001", Client())[2]
    return before.verdict, before.certain, after.verdict, after.certain, after.doubts


def test_where_a_program_chooses_the_listener_a_refusal_is_not_certain(in_namespace):
    *verdicts, doubts = in_namespace(behind_a_lookup)
    assert verdicts == ["ECONNREFUSED", True, "ECONNREFUSED", False]
    assert "programs of eBPF decide over a connection too (sk_lookup:" in doubts[0]


def bind_in(group: Path, port: int) -> int:
    """What bind() answers to a process of that control group."""
    child = os.fork()
    if child == 0:
        (group / "cgroup.procs").write_text("0")
        with socket.socket() as sock:
            try:
                sock.bind(("0.0.0.0", port))
            except OSError as error:
                os._exit(error.errno or 1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def beside_a_guarded_unit(group: Path) -> tuple[Any, ...]:
    refuse(group, _OF_SOCKETS, _POST_BIND4)
    answer = look_at_port(PortQuestion(7003))
    return answer.verdict, answer.doubts, answer.programs, bind_in(group, 7003)


def test_a_unit_that_may_not_bind_is_named_to_others_whom_that_does_not_concern(in_namespace):
    with group("my web.service") as where:
        verdict, doubts, (program,), error = in_namespace(beside_a_guarded_unit, where)
    assert (verdict, doubts, error) == ("free", (), errno.EPERM)
    command = "systemctl show -p SocketBindAllow -p SocketBindDeny 'my web.service'"
    assert program == ("my web.service", ("post_bind4",), command)


def before_a_guarded_listener(group: Path) -> tuple[Any, ...]:
    """The listener is made in the group, which its maker then leaves."""
    (group / "cgroup.procs").write_text("0")
    with socket.create_server(("127.0.0.1", 7001)), socket.socket() as client:
        (group.parent.parent / "cgroup.procs").write_text("0")
        before = predict_from_here("127.0.0.1:7001", Client())[2]
        refuse(group, _OF_PACKETS, _INGRESS)
        after = predict_from_here("127.0.0.1:7001", Client())[2]
        client.settimeout(0.3)
        try:
            client.connect(("127.0.0.1", 7001))
        except TimeoutError:
            return before.certain, after.certain, after.doubts, "no answer"
    return before.certain, after.certain, after.doubts, "connected"


def test_what_programs_drop_before_a_listener_makes_its_answer_not_certain(in_namespace):
    """As IPAddressDeny= of the listener's unit does."""
    with group("web.service") as where:
        before, after, doubts, came = in_namespace(before_a_guarded_listener, where)
    assert (before, after, came) == (True, False, "no answer")
    assert doubts[0].startswith("programs of eBPF decide over a connection too (ingress of the listener:")


def without_privileges(group: Path, folder: Path) -> tuple[Any, ...]:
    (group / "cgroup.procs").write_text("0")
    lose_capabilities()
    port, connection = look_at_port(PortQuestion(7003)), look_at_connection("127.0.0.1:7001", Client())
    signs = [sign_of_programs(call, (str(folder),)) for call in ("bind", "connect")]
    return port.verdict, port.programs, connection.not_looked, signs


def test_without_privilege_programs_are_told_not_looked_at_and_a_unit_s_files_tell_of_some(
    in_namespace, tmp_path
):
    (tmp_path / "web.service").write_text("[Service]\nSocketBindAllow=\n")
    (tmp_path / "web.service.d").mkdir()
    (tmp_path / "web.service.d" / "ports.conf").write_text("[Service]\nSocketBindDeny = any\n")
    with group("web.service") as where:
        verdict, programs, not_looked, signs = in_namespace(without_privileges, where, tmp_path)
    remedy = "takes CAP_NET_ADMIN; root has lost it here"
    assert verdict == ("free" if lists_bound_sockets() else "unknown")
    assert programs == Missing(f"not looked: reading programs of eBPF {remedy}")
    assert not_looked == f"reading rules of nft, programs of eBPF and policies of IPsec {remedy}"
    assert signs == ["web.service has SocketBindDeny=, which programs of eBPF carry out", ""]


ASKED_AS_ROOT_OF_A_USER_NAMESPACE = """
import json
from tcpdoctor.answers.connect import Client, look_at_connection
from tcpdoctor.kernel.programs import find_guarded_groups, why_programs_unread
from tests.live.test_programs import bpf, struct
try:
    bpf(16, struct.pack("=IIIIQI", 0xFFFFFFFF, 8, 0, 0, 0, 0))
except OSError as error:
    refused = error.errno
told = look_at_connection("127.0.0.1:9", Client()).not_looked
print(json.dumps([refused, why_programs_unread(), find_guarded_groups().reason, told]))
"""


def test_root_of_a_user_namespace_is_refused_and_told_so(user_namespace):
    command = ("unshare", "-Urn", sys.executable, "-c", ASKED_AS_ROOT_OF_A_USER_NAMESPACE)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    refused, *told = json.loads(done.stdout)
    assert refused == errno.EPERM
    why = "bpf(2), which tells of programs of eBPF, is refused here (a user namespace, or seccomp)"
    assert told == [why] * 3
