"""Listings that the real ss, netstat and lsof print are read as sock_diag tells the sockets.

The scene is that of the samples: CLOSE_WAIT that nobody reads, both kinds of FIN_WAIT_2, TIME_WAIT, a full
accept queue, and processes whose names try to look like something else.
"""

import ctypes
import itertools
import os
import signal
import socket
import subprocess
from collections import Counter
from contextlib import ExitStack

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Held, Listener, NotHeld
from tcpdoctor.kernel.states import TcpState, Timer
from tcpdoctor.kernel.survey import take_survey
from tcpdoctor.lab.pairs import count_sockets, wait_until
from tcpdoctor.recordings.forms import read_forms

STATES = [state for state in TcpState if state not in (TcpState.BOUND, TcpState.CLOSE)]
NAMES = ('od"d (n),a=me', '",pid=1,fd=2)) ', "x timer:(on,1,", "users:((", "ino:0 sk:1 <->")
NOBODY = 65_534
LANGUAGES = ("en", "de", "fr", "cs", "et", "ja", "pt_BR")


def renamed(name):
    """A process of that name that keeps what it inherits until it is killed."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            libc = ctypes.CDLL(None)
            libc.prctl(15, name.encode(), 0, 0, 0)  # PR_SET_NAME
            libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            os.write(told, b"!")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(told)
    os.read(ready, 1)
    os.close(ready)
    return child


def listening(stack, address, backlog=128, family=socket.AF_INET, **options):
    server = stack.enter_context(socket.socket(family))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "v6only" in options:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, options["v6only"])
    server.bind(address)
    server.listen(backlog)
    return server


def talk(stack, server, count, address=None):
    pairs = []
    for _ in range(count):
        client = stack.enter_context(socket.socket(server.family if address is None else address[0]))
        client.connect(server.getsockname() if address is None else address[1])
        pairs.append((client, stack.enter_context(server.accept()[0])))
    return pairs


def scene(stack):
    """Make the sockets; return the processes besides this one."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=300)
    orders = listening(stack, ("127.0.0.1", 8080))
    for client, _ in (pairs := talk(stack, orders, 17)):
        client.sendall(b"nineteen bytes here")
        client.shutdown(socket.SHUT_WR)
    for client, _ in pairs[:13]:
        client.close()
    database = listening(stack, ("127.0.0.2", 5432))
    for client, served in talk(stack, database, 7):
        served.close()
        client.close()
    payments = listening(stack, ("0.0.0.0", 9443), backlog=5)
    for _ in range(8):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", 9443))
    dual = listening(stack, ("::", 9090), family=socket.AF_INET6, v6only=0)
    talk(stack, dual, 3, (socket.AF_INET6, ("::1", 9090)))
    talk(stack, dual, 1, (socket.AF_INET, ("127.0.0.1", 9090)))
    listening(stack, ("::", 9091), family=socket.AF_INET6, v6only=1)
    stack.enter_context(socket.socket()).bind(("127.0.0.1", 6060))
    datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    datagrams.bind(("127.0.0.1", 5353))
    children = [renamed(name) for name in NAMES]
    wait_until(lambda: count_sockets(TcpState.CLOSE_WAIT) == 17, "CLOSE_WAIT")
    wait_until(lambda: count_sockets(TcpState.TIME_WAIT) == 7, "TIME_WAIT")
    wait_until(lambda: count_sockets(TcpState.FIN_WAIT_2) == 17, "FIN_WAIT_2")
    wait_until(lambda: take_survey([TcpState.ESTABLISHED], local_port=9443).total == 6, "a full queue")
    assert payments
    return children


def played(ask, *given):
    with ExitStack() as stack:
        children = scene(stack)
        try:
            return ask(*given)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def printed(*command, **how):
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "COLUMNS": "", **how.pop("env", {})}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, check=False, **how
    )
    return done.stdout.decode("utf-8", "surrogateescape")


def look():
    return {name_of(seen.row): seen.row for seen in take_survey(STATES).sockets}


def name_of(row):
    remote = None if row_state(row) is TcpState.LISTEN else row.remote
    return row.family, row.local, remote


def row_state(row):
    return TcpState.LISTEN if isinstance(row, Listener) else row.state


def between(command, **how):
    """What a program printed, and the sockets as they were before and after it ran."""
    before = look()
    text = printed(*command, **how)
    return text, before, look()


class Compared:
    """One listing against sock_diag, socket by socket."""

    def __init__(self, command, text, before, after):
        self.command = " ".join(command)
        (self.form,) = read_forms(text, self.command)
        self.before, self.after = before, after
        assert self.form.notes == (), (self.command, self.form.notes)
        # ss of iproute2 6.8 lists sockets that are bound only, too
        tcp = [r for r in self.form.sockets if r.protocol == "tcp" and r.state is not TcpState.BOUND]
        self.rows = {name_of(row): row for row in tcp}
        assert len(self.rows) == len(tcp), self.command

    def expect(self, states=STATES):
        """All sockets there are in some states, and no other."""
        lasting = {
            name
            for name, row in self.before.items()
            if row_state(row) in states and name in self.after and row_state(self.after[name]) in states
        }
        known = {name for look in (self.before, self.after) for name in look}
        assert lasting <= set(self.rows), (self.command, lasting - set(self.rows))
        assert set(self.rows) <= known, (self.command, set(self.rows) - known)
        for name, row in self.rows.items():
            ours = [look[name] for look in (self.before, self.after) if name in look]
            assert row.state in {row_state(one) for one in ours}, (self.command, row)
        return self

    def pairs(self):
        """What was read beside what we saw before and after, of sockets that did not change their state."""
        for name, row in self.rows.items():
            before, after = self.before.get(name), self.after.get(name)
            if (
                before is not None
                and after is not None
                and row_state(before) is row_state(after) is row.state
            ):
                yield row, before, after

    def queues(self, *, limits=True):
        for row, before, after in self.pairs():
            if isinstance(before, Listener):
                assert row.receive_queue == before.accept_queue
                assert (
                    row.accept_limit == before.accept_limit
                    if limits
                    else isinstance(row.accept_limit, Missing)
                )
            else:
                assert row.receive_queue in (before.receive_queue, after.receive_queue), row
                assert row.send_queue in (before.send_queue, after.send_queue), row

    def timers(self, *, asked):
        for row, before, after in self.pairs():
            if isinstance(before, Listener):
                continue
            if asked:
                assert row.timer in (before.timer, after.timer), (self.command, row)
                if row.timer is Timer.TIME_WAIT:
                    assert after.expires - 1.02 <= row.expires <= before.expires + 0.02
            elif row.state is not TcpState.TIME_WAIT:
                assert isinstance(row.timer, Missing), (self.command, row)

    def details(self, *, asked, cookie=True):
        for row, before, _ in self.pairs():
            if asked:
                assert (row.inode, row.uid) == (before.inode, before.uid)
                if cookie:
                    assert row.cookie == before.cookie
                if cookie and isinstance(before, Listener) and before.family == 6:
                    assert row.v6only == before.v6only
            else:
                assert isinstance(row.inode, Missing)
                assert isinstance(row.uid, Missing)
                assert isinstance(row.cookie, Missing)

    def tcp_info(self, *, asked):
        for row, before, after in self.pairs():
            if not asked or isinstance(before, Listener) or isinstance(before.info, Missing):
                assert isinstance(row.info, Missing), (self.command, row)
                continue
            least, read, most = before.info, row.info, after.info
            assert least.last_data_recv <= read.last_data_recv <= most.last_data_recv
            assert least.rtt * 0.9999 <= read.rtt <= most.rtt * 1.0001
            if not isinstance(read.bytes, Missing):  # older than iproute2 4.20
                assert read.bytes in (least.bytes, most.bytes)
            assert (read.mss, read.unacked, read.notsent) in [
                (one.mss, one.unacked, one.notsent) for one in (least, most)
            ]
            assert least.total_retrans <= read.total_retrans <= most.total_retrans
            if row.state is not TcpState.SYN_SENT:
                assert read.rto == least.rto

    def memory(self, *, asked):
        for row, before, after in self.pairs():
            if asked and not isinstance(before, Listener) and not isinstance(before.memory, Missing):
                assert row.memory in (before.memory, after.memory)
            elif not asked:
                assert isinstance(row.memory, Missing)

    def owners(self, *, asked, us, certain):
        for row, before, _ in self.pairs():
            stub = row.state is TcpState.TIME_WAIT or (certain and not before.inode)
            if not asked:
                assert not isinstance(row.owner, Held)
            elif before.inode:
                assert us in {holder.pid for holder in row.owner.holders}, (self.command, row)
            else:
                assert isinstance(row.owner, NotHeld if stub else (Missing, NotHeld)), (self.command, row)


def every_option(letters, families):
    us = os.getpid()
    many, names = 0, set()
    for size in range(len(letters) + 1):
        for chosen in itertools.combinations(letters, size):
            for family in families:
                command = ("ss", f"-{family}an{''.join(chosen)}")
                compared = Compared(command, *between(command)).expect()
                many += 1
                told = set(chosen)
                compared.queues()
                compared.timers(asked=bool(told & {"o", "e"}))
                compared.details(asked="e" in told)
                compared.tcp_info(asked="i" in told)
                compared.memory(asked="m" in told)
                compared.owners(asked="p" in told, us=us, certain="e" in told)
                whole = compared.form.every_socket
                assert isinstance(whole, Missing) if "H" in told else whole is True, command
                if "u" in family:
                    assert ("127.0.0.1", 5353) in {
                        r.local for r in compared.form.sockets if r.protocol == "udp"
                    }
                if "p" in told:
                    names |= {
                        holder.name
                        for r in compared.form.sockets
                        if isinstance(r.owner, Held)
                        for holder in r.owner.holders
                    }
    return many, names


def test_ss_with_every_combination_of_its_options(in_own_machine, need):
    need("ss", "iproute2")
    many, names = in_own_machine(played, every_option, "poemiHO", ("t", "tu"))
    assert many == 256
    # ss reads the name up to its first bracket, as /proc/PID/stat puts it between brackets
    assert {name.partition(")")[0] for name in NAMES} <= {name.partition(")")[0] for name in names}


def parts():
    found = {}
    for words in (
        ("-tan", "state", "time-wait"),
        ("-ton", "state", "fin-wait-2"),
        ("-tan", "state", "close-wait"),
        ("-tn",),
        ("-tln",),
        ("-4tan",),
        ("-6tan",),
        ("-tan", "sport", "=", ":8080"),
        ("-tulpn",),
    ):
        text, before, after = between(("ss", *words))
        prompt = f"root@web1:~# ss {' '.join(words)}\n"
        found[words] = Compared(("ss", *words), prompt + text, before, after)
    return {
        words: (
            Counter(row.state for row in one.form.sockets if row.protocol == "tcp"),
            one.form.every_socket,
            set(one.rows) <= {*one.before, *one.after},
        )
        for words, one in found.items()
    }


def test_parts_of_a_listing_are_said_to_be_parts(in_own_machine, need):
    need("ss", "iproute2")
    found = in_own_machine(played, parts)
    assert all(isinstance(whole, Missing) and known for _, whole, known in found.values()), found
    states = {words: counts for words, (counts, _, _) in found.items()}
    assert states["-tan", "state", "close-wait"] == {TcpState.CLOSE_WAIT: 17}
    assert states["-tan", "state", "time-wait"] == {TcpState.TIME_WAIT: 7}
    assert states["-ton", "state", "fin-wait-2"] == {TcpState.FIN_WAIT_2: 17}
    assert states[("-tln",)] == {TcpState.LISTEN: 5} == states[("-tulpn",)]
    assert set(states[("-tn",)]).isdisjoint({TcpState.LISTEN, TcpState.TIME_WAIT})


def as_nobody():
    text, before, after = between(("ss", "-tanpe"), user=NOBODY)
    return Compared(("ss", "-tanpe"), text, before, after).expect().form


def test_ss_without_root_names_nobody(in_own_machine, need):
    need("ss", "iproute2")
    form = in_own_machine(played, as_nobody)
    live = [row for row in form.sockets if row.inode]
    assert len(live) > 17
    assert all("not as root" in row.owner.reason for row in live)


def netstats():
    us = os.getpid()
    for language in LANGUAGES:
        for options in ("-tan", "-tanp", "-tanpo", "-Wneopat", "-antu"):
            command = ("netstat", options)
            text, before, after = between(command, env={"LANGUAGE": language})
            compared = Compared((language, *command), text, before, after).expect()
            compared.queues(limits=False)
            compared.timers(asked="o" in options)
            if "e" in options:
                compared.details(asked=True, cookie=False)
            compared.owners(asked="p" in options, us=us, certain="e" in options)
            assert compared.form.every_socket is True, (language, command)
    return True


def test_netstat_in_every_language_it_speaks(in_own_machine, need):
    need("netstat", "net-tools")
    assert in_own_machine(played, netstats)


def lsofs():
    for options in (("-nP", "-iTCP"), ("-nP", "-i"), ("+c0", "-nP", "-i", "-a", "-p", str(os.getpid()))):
        command = ("lsof", *options)
        text, before, after = between(command)
        compared = Compared(command, text, before, after)
        held = {name for name, row in before.items() if row.inode}
        ours = {row.inode: row_state(row) for row in before.values()}
        assert {row.inode: row.state for row in compared.rows.values()}.items() <= ours.items()
        assert held == set(compared.rows)
        compared.owners(asked=True, us=os.getpid(), certain=True)
    return True


def test_lsof_names_the_holders(in_own_machine, need):
    need("lsof", "lsof")
    assert in_own_machine(played, lsofs)


def on_terminals():
    """Forms as a terminal of some columns shows them, and as they are copied from it."""
    found = []
    for columns in (80, 100, 132):
        text, before, after = between(("ss", "-tanpoe"), env={"COLUMNS": str(columns)})
        cut = "\n".join(
            line[place : place + columns].rstrip() or ""
            for line in text.splitlines()
            for place in range(0, max(1, len(line.rstrip())), columns)
        )
        compared = Compared(("ss", "-tanpoe", str(columns)), cut, before, after).expect()
        compared.owners(asked=True, us=os.getpid(), certain=True)
        compared.timers(asked=True)
        found.append(len(compared.rows))
    return found


def test_lines_that_a_terminal_cut(in_own_machine, need):
    need("ss", "iproute2")
    assert min(in_own_machine(played, on_terminals)) > 50
