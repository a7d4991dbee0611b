"""What a word means, asked of a namespace with listeners and processes of its own."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tcpdoctor.answers.words import Meaning, meaning_of, port_of, processes_called
from tcpdoctor.errors import QuestionError
from tcpdoctor.knowledge.error_pages import error_in_line, error_names, find_error
from tcpdoctor.knowledge.log_lines import tells_own_timer
from tcpdoctor.knowledge.resource import parse_toml, read_text
from tests.cli.command import tcpdoctor


def questions(*words: str) -> list[tuple[str, str]]:
    first, others = meaning_of(words)
    return [(one.question, one.value) for one in (first, *others)]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("8080", [("port", "8080")]),
        (":8080", [("port", "8080")]),
        ("*:8080", [("port", "8080")]),
        ("0.0.0.0:8080", [("port", "0.0.0.0:8080")]),
        ("98", [("port", "98"), ("error", "EADDRINUSE")]),
        ("10048", [("port", "10048"), ("error", "EADDRINUSE")]),
        ("10061", [("port", "10061"), ("error", "ECONNREFUSED")]),
        ("10062", [("port", "10062")]),
        ("NoRouteToHostException", [("error", "EHOSTUNREACH")]),
        ("java.net.ConnectException", [("error", "ECONNREFUSED")]),
        ("70000", [("pid", "70000")]),
        ("EADDRINUSE", [("error", "EADDRINUSE")]),
        ("Address already in use", [("error", "EADDRINUSE")]),
        ("close-wait", [("state", "close_wait")]),
        ("CLOSE_WAIT", [("state", "close_wait")]),
        ("tcp_fin_timeout", [("sysctl", "net.ipv4.tcp_fin_timeout")]),
        ("syn cookies", [("sysctl", "net.ipv4.tcp_syncookies")]),
        ("ephemeral ports", [("sysctl", "net.ipv4.ip_local_port_range")]),
        ("keepalive time", [("option", "TCP_KEEPIDLE")]),
        ("close wait leak", [("rule", "close-wait-leak")]),
        ("SO_REUSEADDR", [("option", "SO_REUSEADDR")]),
        ("TCP_USER_TIMEOUT", [("option", "TCP_USER_TIMEOUT")]),
        ("close-wait-leak", [("rule", "close-wait-leak")]),
        ("db:5432", [("connect", "db:5432")]),
        ("203.0.113.7:443", [("connect", "203.0.113.7:443")]),
    ],
)
def test_a_word_has_one_first_meaning_and_names_the_others(words, asked):
    assert questions(*words.split()) == asked


def test_a_line_of_a_log_names_the_error_and_the_port():
    line = "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)"
    assert questions(*line.split()) == [("error", "EADDRINUSE"), ("port", "80")]


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("java.net.BindException: Adresse wird bereits verwendet (Bind failed)", [("error", "EADDRINUSE")]),
        ("bind: adresse deja utilisee", [("error", "EADDRINUSE")]),
        ("bind: Adresse wird bereits benutzt", [("error", "EADDRINUSE")]),
        ("No existe ninguna ruta hasta el \u00abhost\u00bb", [("error", "EHOSTUNREACH")]),
        ("Failed to start listener: {error,eaddrinuse}", [("error", "EADDRINUSE")]),
        (
            "[ERROR] Do you already have another mysqld server running on port: 3306 ?",
            [("error", "EADDRINUSE"), ("port", "3306")],
        ),
        ("net/http: TLS handshake timeout", [("error", "ETIMEDOUT")]),
        ("accept4: Demasiados archivos abiertos", [("error", "EMFILE")]),
        ("connect: Verbindung verweigert", [("error", "ECONNREFUSED")]),
        (
            "Error: connect ECONNREFUSED 2001:db8::7:3306",
            [("error", "ECONNREFUSED"), ("connect", "[2001:db8::7]:3306")],
        ),
        (
            "[ALERT] Starting frontend http: cannot bind socket (Address already in use) [0.0.0.0:7411]",
            [("error", "EADDRINUSE"), ("port", "7411")],
        ),
        (
            "bash: connect: /dev/tcp/203.0.113.7/7411: Connection refused",
            [("error", "ECONNREFUSED"), ("connect", "203.0.113.7:7411")],
        ),
        (
            'psql: Fehler: Verbindung zum Server auf "db" (203.0.113.7), Port 5432: Verbindung abgelehnt',
            [("error", "ECONNREFUSED"), ("connect", "203.0.113.7:5432")],
        ),
        (
            "rootlessport cannot expose privileged port 80, you can add 'net.ipv4.ip_unprivileged_po",
            [("sysctl", "net.ipv4.ip_unprivileged_port_start"), ("port", "80")],
        ),
    ],
)
def test_a_line_in_another_language_or_of_another_program_names_the_error_and_the_end(line, asked):
    assert questions(*line.split()) == asked


def test_a_number_that_nobody_listens_on_names_the_process_that_has_it_too(in_namespace):
    def ask() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        idle = questions("1")
        with socket.create_server(("127.0.0.1", 1)):
            return idle, questions("1")

    idle, served = in_namespace(ask)
    assert idle[0] == served[0] == ("port", "1")
    assert ("pid", "1") in idle
    assert ("pid", "1") not in served


def where_a_server_listens() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    with socket.create_server(("127.0.0.1", 7411)):
        return questions("127.0.0.1:7411"), questions("127.0.0.1:7412")


def test_an_end_of_this_host_is_a_port_where_somebody_listens_and_else_a_connection(in_namespace):
    served, silent = in_namespace(where_a_server_listens)
    assert served == [("port", "127.0.0.1:7411"), ("connect", "127.0.0.1:7411")]
    assert silent == [("connect", "127.0.0.1:7412"), ("port", "127.0.0.1:7412")]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("8080", (None, 8080)),
        (":8080", (None, 8080)),
        ("0.0.0.0:8080", ("0.0.0.0", 8080)),
        ("[::1]:8080", ("::1", 8080)),
        ("localhost:8080", ("127.0.0.1", 8080)),
        ("http", (None, 80)),
    ],
)
def test_the_flag_takes_what_the_word_takes(text, end):
    assert port_of(text) == end


@pytest.mark.parametrize("text", ["0", "65536", ":0", "::1:80", "http:", "-1", "no-such-service", ""])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(QuestionError, match="port"):
        port_of(text)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("clos-wait-leak", "tcpdoctor explain close-wait-leak"),
        ("tcp_fin_timout", "tcpdoctor explain tcp_fin_timeout"),
        ("EADDRINUS", "tcpdoctor explain EADDRINUSE"),
        ("xyzzy", "a word is a port"),
    ],
)
def test_an_unknown_word_gets_the_nearest_or_nothing_rather_than_nonsense(word, hint):
    with pytest.raises(QuestionError, match=hint):
        meaning_of([word])


def test_the_command_that_asks_for_a_meaning_is_whole():
    assert Meaning("error", "EADDRINUSE", "EADDRINUSE").command() == "tcpdoctor explain --error EADDRINUSE"
    assert Meaning("pid", "my app", "x").command() == "tcpdoctor explain --pid 'my app'"


# --- as a new user would ask ---


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("port 8080", [("port", "8080")]),
        ("tcp/8080", [("port", "8080")]),
        ("8080/tcp", [("port", "8080")]),
        ("tcp:http", [("port", "80")]),
        ("HTTP", [("port", "80")]),
        ("pid 1", [("pid", "1")]),
        ("state close_wait", [("state", "close_wait")]),
        ("error 98", [("error", "EADDRINUSE")]),
        ("option SO_LINGER", [("option", "SO_LINGER")]),
        ("rule close-wait-leak", [("rule", "close-wait-leak")]),
        ("close_wait_leak", [("rule", "close-wait-leak")]),
        ("net/ipv4/tcp_fin_timeout", [("sysctl", "net.ipv4.tcp_fin_timeout")]),
        ("/proc/sys/net/ipv4/tcp_fin_timeout", [("sysctl", "net.ipv4.tcp_fin_timeout")]),
        ("FIN-WAIT-2", [("state", "fin_wait_2")]),
        ("ESTAB", [("state", "established")]),
        ("reuseaddr", [("option", "SO_REUSEADDR")]),
        ("[::]:80", [("port", "[::]:80")]),
        ("port=8080", [("port", "8080")]),
        ("pid:1", [("pid", "1")]),
        ("https://example.invalid/path?a=b:c", [("connect", "example.invalid:443")]),
        ("postgres://user:pa:ss@db/name", [("connect", "db:5432")]),
        ("jdbc:postgresql://db:6432/name", [("connect", "db:6432")]),
        ("http://[2001:db8::7]:8443/x", [("connect", "[2001:db8::7]:8443")]),
        ("tcp://0.0.0.0:2375", [("port", "0.0.0.0:2375")]),
        ("203.0.113.7 5432", [("connect", "203.0.113.7:5432")]),
        ("telnet 203.0.113.7 25", [("connect", "203.0.113.7:25")]),
        ("2001:db8::7 25", [("connect", "[2001:db8::7]:25")]),
        ("nofile", [("error", "EMFILE")]),
    ],
)
def test_usual_spellings_are_understood(words, asked):
    assert questions(*words.split()) == asked


@pytest.mark.parametrize("words", ["53/udp", "udp/53", "udp:53", "udp 53", "udp:domain"])
def test_a_port_of_udp_is_asked_as_one(words):
    meaning, others = meaning_of(words.split())
    assert (meaning.command(), others) == ("tcpdoctor explain --port 53 --udp", ())


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (
            "nginx: [emerg] bind() to [::]:80 failed (98: Unknown error)",
            [("error", "EADDRINUSE"), ("port", "80")],
        ),
        ("java.net.BindException: Address already in use (Bind failed)", [("error", "EADDRINUSE")]),
        ("java.net.SocketException: Connection reset", [("error", "ECONNRESET")]),
        ("java.net.SocketTimeoutException: Read timed out", [("error", "ETIMEDOUT")]),
        ("ConnectionRefusedError: [Errno 111] Connection refused", [("error", "ECONNREFUSED")]),
        (
            "dial tcp 203.0.113.7:5432: connect: connection refused",
            [("error", "ECONNREFUSED"), ("connect", "203.0.113.7:5432")],
        ),
        (
            "dial tcp 203.0.113.7:5432: i/o timeout",
            [("error", "ETIMEDOUT"), ("connect", "203.0.113.7:5432")],
        ),
        (
            "read tcp 127.0.0.1:1234->203.0.113.7:80: read: connection reset by peer",
            [("error", "ECONNRESET"), ("connect", "203.0.113.7:80")],
        ),
        ("listen tcp :8080: bind: address already in use", [("error", "EADDRINUSE"), ("port", "8080")]),
        (
            "Error: listen EADDRINUSE: address already in use :::3000",
            [("error", "EADDRINUSE"), ("port", "3000")],
        ),
        ("Error: connect ECONNREFUSED db:5432", [("error", "ECONNREFUSED"), ("connect", "db:5432")]),
        (
            'connect() failed (111: Connection refused), upstream: "http://203.0.113.7:8080/"',
            [("error", "ECONNREFUSED"), ("connect", "203.0.113.7:8080")],
        ),
        (
            "ssh: connect to host db port 22: No route to host",
            [("error", "EHOSTUNREACH"), ("connect", "db:22")],
        ),
        (
            "TCP: request_sock_TCP: Possible SYN flooding on port 0.0.0.0:80. Sending cookies.",
            [("rule", "syn-queue-full"), ("port", "80")],
        ),
        ("app.py:42: OSError: [Errno 98] Address already in use", [("error", "EADDRINUSE")]),
        (
            "Error: listen EADDRINUSE: address already in use 127.0.0.1:3000",
            [("error", "EADDRINUSE"), ("port", "127.0.0.1:3000")],
        ),
        (
            "bind() to 203.0.113.7:80 failed (99: Cannot assign requested address)",
            [("error", "EADDRNOTAVAIL"), ("port", "203.0.113.7:80")],
        ),
        (
            "[Errno 98] error while attempting to bind on address ('203.0.113.7', 80): it is in use",
            [("error", "EADDRINUSE"), ("port", "203.0.113.7:80")],
        ),
        (
            "Bind for 0.0.0.0:6379 failed: port is already allocated",
            [("error", "EADDRINUSE"), ("port", "6379")],
        ),
        (
            "dovecot: master: Error: service(imap-login): listen(*, 143) failed: Address already in use",
            [("error", "EADDRINUSE"), ("port", "143")],
        ),
        (
            "ERROR: distribution port 25672 in use by another node: rabbit@vm",
            [("error", "EADDRINUSE"), ("port", "25672")],
        ),
        (
            "Web server failed to start. Port 8080 was already in use.",
            [("error", "EADDRINUSE"), ("port", "8080")],
        ),
        (
            'connection to server at "203.0.113.7", port 5432 failed: Connection refused',
            [("error", "ECONNREFUSED"), ("connect", "203.0.113.7:5432")],
        ),
        (
            "HTTPConnectionPool(host='db', port=80): Max retries exceeded ([Errno 111] Connection refused)",
            [("error", "ECONNREFUSED"), ("connect", "db:80")],
        ),
        (
            "ERROR 2003 (HY000): Can't connect to MySQL server on '203.0.113.7:3306' (111)",
            [("error", "ECONNREFUSED"), ("connect", "203.0.113.7:3306")],
        ),
        (
            "curl: (7) Failed to connect to db port 80 after 0 ms: Couldn't connect to server",
            [("connect", "db:80")],
        ),
        ("channel_setup_fwd_listener_tcpip: cannot listen to port: 6379", [("port", "6379")]),
        ("neighbour: arp_cache: neighbor table overflow!", [("sysctl", "net.ipv4.neigh.default.gc_thresh3")]),
        ("12:30 worker: Address already in use", [("error", "EADDRINUSE")]),
        (
            "consumer: Cannot connect to amqp://guest:**@203.0.113.7:5672//: [Errno 111] Connection refused.",
            [("error", "ECONNREFUSED"), ("connect", "203.0.113.7:5672")],
        ),
        (
            "ConnectionException: Connection refused [tcp://203.0.113.7:6379]",
            [("error", "ECONNREFUSED"), ("connect", "203.0.113.7:6379")],
        ),
        (
            'Connection refused It on host "db" (203.0.113.7) and accepting TCP/IP connections on port 5432',
            [("error", "ECONNREFUSED"), ("connect", "db:5432")],
        ),
        (
            "failed to bind host port for 0.0.0.0:80:172.17.0.2:80/tcp: address already in use",
            [("error", "EADDRINUSE"), ("port", "0.0.0.0:80")],
        ),
    ],
)
def test_lines_of_logs_name_the_error_and_the_end_they_are_about(line, asked):
    assert questions(*line.split()) == asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("0", "no port"),
        ("99999999", "no port"),
        ("example.com", "tcpdoctor explain example.com:PORT"),
        ("203.0.113.7", "tcpdoctor explain 203.0.113.7:PORT"),
        ("fd00::1", r"tcpdoctor explain \[fd00::1\]:PORT"),
        ("8080 9090", "one question at a time: tcpdoctor explain 8080"),
        ("EADDR", "EADDRINUSE or EADDRNOTAVAIL"),
        ("tcp_fin", "explain tcp_fin_timeout$"),
        ("syn", "explain syn_sent or syn_recv$"),
        ("net.ipv4.tcp_fin_timeot", "explain tcp_fin_timeout$"),
        ("orphans", "orphans-near-limit, orphans-reset, .* or tcp_max_orphans"),
        ("backlog", "tcp_max_syn_backlog"),
        ("no-such.service", "nothing here is called"),
        ("localhost", "tcpdoctor explain localhost:PORT"),
        ("unix:///run/x.sock", "nothing here is called"),
        ("dial tcp: lookup db on 127.0.0.53:53: no such host", "before any TCP"),
        ("getaddrinfo ENOTFOUND db", "before any TCP"),
    ],
)
def test_what_cannot_be_answered_says_what_may_have_been_meant(words, said):
    with pytest.raises(QuestionError, match=said):
        meaning_of(words.split())


@contextmanager
def a_program(name: str) -> Iterator[int]:
    """Another process of this name, which is also ours."""
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(name)
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def asked_of_a_program(name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]], str]:
    with a_program(name):
        try:
            meaning_of([name.replace("r", "rr")])
        except QuestionError as error:
            return questions(name), questions(f"/usr/sbin/{name}"), str(error)
    return [], [], ""


def test_a_program_that_runs_is_found_by_name_and_path_and_near(in_namespace):
    by_name, by_path, near = in_namespace(asked_of_a_program, "ngserver")
    assert by_name == by_path == [("pid", "ngserver")]
    assert "did you mean: tcpdoctor explain ngserver" in near


def called_as_we_are() -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    with a_program("named-as-we-are") as other:
        beside = processes_called("named-as-we-are")
    return other, beside, processes_called("named-as-we-are")


def test_who_answers_is_not_among_those_that_are_asked_for(in_namespace):
    other, beside, alone = in_namespace(called_as_we_are)
    assert (beside, alone) == ((other,), ())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bind: Die Adresse wird bereits verwendet", "EADDRINUSE"),
        ("connect: Verbindungsaufbau abgelehnt", "ECONNREFUSED"),
        ("ssh: Aucun chemin d'accès pour atteindre l'hôte cible", "EHOSTUNREACH"),
        ("Conexión rehusada", "ECONNREFUSED"),
        ("アドレスは既に使用中です", "EADDRINUSE"),
        ("POŁĄCZENIE ODRZUCONE", "ECONNREFUSED"),
    ],
)
def test_errors_are_understood_in_other_languages(text, name):
    assert questions(*text.split()) == [("error", name)]
    assert find_error(text).name == name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("java.net.BindException: Address already in use (Bind failed)", "EADDRINUSE"),
        ("java.net.SocketException: Socket closed", "EBADF"),
        ("read tcp 10.0.0.1:5->10.0.0.5:443: use of closed network connection", "EBADF"),
        ('Get "http://a": request canceled (Client.Timeout exceeded while awaiting headers)', "ETIMEDOUT"),
        ("Timeout, server 10.0.0.5 not responding.", "ETIMEDOUT"),
        ("Server app/web1 is DOWN, reason: Layer4 timeout, check duration: 2001ms", "ETIMEDOUT"),
        ("Connect() failed for backend app: no free ports.", "EADDRNOTAVAIL"),
        ("connect() to 10.0.0.5:80 failed (99: Cannot assign requested address)", "EADDRNOTAVAIL"),
        ("GnuTLS recv error (-54): Error in the pull function.", "ECONNRESET"),
        ("An existing connection was forcibly closed by the remote host.", "ECONNRESET"),
        ("the target machine actively refused it. 10.0.0.5:5432", "ECONNREFUSED"),
        ("OSError: [Errno 24] Too many open files", "EMFILE"),
        ("socket: Too many open files in system", "ENFILE"),
        ("System.Net.Sockets.SocketException (10048): in use", "EADDRINUSE"),
        ("[Errno 10061] connect call failed", "ECONNREFUSED"),
        ("WSAECONNRESET 10054", "ECONNRESET"),
        ("WSAEADDRINUSE", "EADDRINUSE"),
        ("{failed_to_start_child,listener,{listen_error,eaddrinuse}}", "EADDRINUSE"),
        ("Net::OpenTimeout: execution expired", "ETIMEDOUT"),
        ("java.net.SocketTimeoutException", "ETIMEDOUT"),
        ("ESOCKETTIMEDOUT", "ETIMEDOUT"),
        ("kind: AddrNotAvailable", "EADDRNOTAVAIL"),
        ("Something is already running on port 3000.", "EADDRINUSE"),
        ("Port 3000 is in use, trying another one...", "EADDRINUSE"),
    ],
)
def test_a_whole_line_is_an_error_s_too(line, name):
    assert find_error(line).name == name
    assert questions(*line.split())[0] == ("error", name)


def test_each_text_of_another_language_is_of_one_error():
    texts = [text for said in parse_toml(read_text("error_texts.toml")).values() for text in said]
    assert len(texts) > 150
    assert all(error_in_line(text) in error_names() for text in texts)
    assert len(set(texts)) == len(texts)


def test_a_line_of_a_log_names_its_end_before_the_page_of_its_error():
    done = tcpdoctor("explain", "listen tcp 203.0.113.7:80: bind: address already in use")
    first, rest = done.stdout.split("\n", 1)
    assert first == "This line is about port 80 here: tcpdoctor explain --port 203.0.113.7:80"
    assert rest.startswith("\nEADDRINUSE (98")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "[alert] 7#7: 7 worker_connections are not enough while connecting, server: 0.0.0.0:80",
            "nginx",
        ),
        ("no live upstreams while connecting to upstream, client: 10.0.0.1", "every server of that group"),
        ("backend app has no server available!", "every server of that group"),
        ("FATAL: sorry, too many clients already", "max_connections"),
        ("ERROR 1040 (HY000): Too many connections", "max_connections"),
        ("ERR max number of clients reached", "max_connections"),
        ("WARNING: [pool www] server reached pm.max_children setting (5)", "accept queue"),
        ("HikariPool-1 - Connection is not available, request timed out after 30000ms.", "own pool"),
        ("Failed to listen on OpenBSD Secure Shell server socket.", "journalctl"),
        ("FATAL: could not create any TCP/IP sockets", "line before"),
        ("error: lost connection to pod", "--netns"),
        ('nginx: [emerg] host not found in upstream "app"', "before any TCP"),
        ("[warn] 2048 worker_connections exceed open file resource limit: 1024", "LimitNOFILE"),
        ("[emerg] still could not bind()", "line before"),
        ("http: TLS handshake error from 10.0.0.1:5000: EOF", "recv\\(\\) returned 0"),
        ("SSL SYSCALL error: EOF detected", "recv\\(\\) returned 0"),
        ("MySQL server has gone away", "recv\\(\\) returned 0"),
        ("UND_ERR_SOCKET other side closed", "recv\\(\\) returned 0"),
        ("rsync: connection unexpectedly closed (0 bytes received so far)", "recv\\(\\) returned 0"),
        ("java.io.EOFException", "recv\\(\\) returned 0"),
        ("502 Bad Gateway", "error log"),
        ("504 Gateway Time-out", "own timer"),
        ("INFO: task nginx:811 blocked for more than 120 seconds.", "state D"),
        ("hyper: connection closed before message completed", "recv\\(\\) returned 0"),
        ("http.client.RemoteDisconnected", "recv\\(\\) returned 0"),
        ("kafka.errors.NoBrokersAvailable", "Caused by"),
        ("com.mysql.cj.exceptions.CJCommunicationsException: Communications link failure", "Caused by"),
        ("ERROR: epmd error for host db: address (cannot connect to host/port)", "4369"),
        ("no listening sockets available, shutting down", "line before"),
        ("disconnect/reset before headers. reset reason: overflow", "circuit breaker"),
        (
            "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
            "connect_timeout",
        ),
        (
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            "keepalive timeout",
        ),
        (
            "Aborted connection 7 to db: 'a' user: 'b' host: 'c' (Got timeout reading communication packets)",
            "wait_timeout",
        ),
        ("rpc error: code = Unavailable desc = transport is closing", "recv\\(\\) returned 0"),
        ("[UFW BLOCK] IN=eth0 OUT= SRC=10.0.0.1 DST=10.0.0.2 PROTO=TCP SPT=1234 DPT=22", "firewall"),
        ('audit: type=1400 apparmor="DENIED" operation="bind" profile="x"', "security module"),
        ('avc:  denied  { name_bind } for  pid=7 comm="httpd" src=8081', "security module"),
        ("Proxy http reached the configured maximum connection limit", "maxconn"),
        ("web.service: Start request repeated too quickly.", "gave up"),
        ("Route cache is full: consider increasing sysctl net.ipv6.route.max_size.", "routes of IPv6"),
        ("nf_conntrack: nf_conntrack: expectation table full", "nf_conntrack_expect_max"),
        ("TCP: tcp_parse_options: Illegal window scaling value 15 > 14 received", "RFC 7323"),
    ],
)
def test_a_limit_of_a_program_s_own_is_told_as_that_whatever_address_stands_beside_it(line, said):
    with pytest.raises(QuestionError, match=said):
        meaning_of(line.split())


@pytest.mark.parametrize(
    ("line", "first", "others"),
    [
        ("NETDEV WATCHDOG: eth0: transmit queue 0 timed out", ("rule", "packets-stuck-in-host-queues"), []),
        (
            '*** uWSGI listen queue of socket ":7" (fd: 3) full !!! (101/100)',
            ("rule", "accept-queue-full"),
            [("port", "7")],
        ),
        ("Connection in use: ('0.0.0.0', 8000)", ("error", "EADDRINUSE"), [("port", "0.0.0.0:8000")]),
        (
            "502 Bad Gateway caused by: dial tcp 10.0.0.5:80: connect: connection refused",
            ("error", "ECONNREFUSED"),
            [("connect", "10.0.0.5:80")],
        ),
        (
            "upstream connect error or disconnect/reset before headers. delayed connect error: 111",
            ("error", "ECONNREFUSED"),
            [],
        ),
    ],
)
def test_a_line_is_of_what_it_tells_and_of_no_error_that_its_words_hold(line, first, others):
    assert questions(*line.split()) == [first, *others]


@pytest.mark.parametrize(
    ("line", "own"),
    [
        ("requests.exceptions.ReadTimeout: HTTPConnectionPool(host='db', port=80): Read timed out.", True),
        ("java.net.SocketTimeoutException: connect timed out", True),
        ("dial tcp 203.0.113.7:5432: i/o timeout", True),
        ("upstream timed out (110: Connection timed out) while reading response header", True),
        ("curl: (28) Operation timed out after 5001 milliseconds with 0 bytes received", True),
        ("Server app/web1 is DOWN, reason: Layer4 timeout, check duration: 2001ms", True),
        ("Net::ReadTimeout", True),
        ("TimeoutError", True),
        ("TimeoutError: [Errno 110] Connection timed out", False),
        ("java.net.ConnectException: Connection timed out (Connection timed out)", False),
        ("connect ETIMEDOUT 203.0.113.7:443", False),
        ("ssh: connect to host db port 22: Connection timed out", False),
    ],
)
def test_a_programs_own_timer_is_told_apart_from_the_kernels(line, own):
    assert questions(*line.split())[0] == ("error", "ETIMEDOUT")
    assert tells_own_timer(line) is own


def test_the_page_of_the_kernels_timeout_is_headed_by_the_programs_own_timer():
    for asked, this in (("Read timed out", "This line is"), ("TimeoutError", "This is")):
        told = tcpdoctor("explain", asked).stdout
        assert told.startswith(f"{this} about the program's own timer")
        assert "\nETIMEDOUT (110" in told


def test_a_password_in_a_url_is_not_said_again():
    done = tcpdoctor("explain", "redis://user:secret@127.0.0.1:7/0")
    assert "secret" not in done.stdout + done.stderr
    assert "redis://127.0.0.1:7/0 is also port 7 here" in done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "urllib3.exceptions.ProtocolError: Remote end closed connection without response",
        "upstream prematurely closed connection while reading response header from upstream",
        "curl: (52) Empty reply from server",
        "ssl.SSLEOFError: EOF occurred in violation of protocol (_ssl.c:1129)",
    ],
)
def test_an_end_of_file_is_no_error_of_tcp_and_leads_to_who_closes_first(line):
    with pytest.raises(QuestionError, match=r"recv\(\) returned 0.*tcpdoctor trace"):
        meaning_of(line.split())
