"""What a word means: a port, a connection, an error, a state, a sysctl, an option, a rule, a process.

`tcpdoctor explain WORD` answers the first question that fits, in this order, and names the others. Nothing
is looked at but what a word may stand for: /etc/services, this host's addresses and listeners, process names.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from tcpdoctor.errors import QuestionError
from tcpdoctor.kernel.namespaces import is_recording
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.text import beginning_of, clean, is_whole
from tcpdoctor.named_tuples import NamedTuple

_LARGEST_PORT = 65535
_LARGEST_PID = 1 << 22
_WILDCARDS = ("", "*", "0.0.0.0", "::", "any")
_LOOPBACK = ("localhost", "ip6-localhost")
_END = re.compile(r"^(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]/]*|\*)):(?P<port>\d{1,5})$")
_SERVICES = {"http": 80, "https": 443, "ssh": 22, "smtp": 25, "domain": 53, "postgresql": 5432, "mysql": 3306}
"""Where a host has no /etc/services."""


class Meaning(NamedTuple):
    """One thing that a word may stand for."""

    question: str
    """An option of `tcpdoctor explain` without its dashes: ``port``, ``connect``, ``pid`` ..."""
    value: str
    """What that option takes."""
    name: str
    """What it is, for a line that names it: ``EADDRINUSE``, ``port 98``."""
    udp: bool = False
    """Of a port: it is one of UDP."""

    def command(self) -> str:
        """The whole command that asks for it and nothing else."""
        value = self.value if re.fullmatch(r"[\w.:*\[\]@%/-]+", self.value) else f"'{self.value}'"
        return f"tcpdoctor explain --{self.question} {value}{' --udp' if self.udp else ''}"


def meaning_of(words: Sequence[str]) -> tuple[Meaning, tuple[Meaning, ...]]:
    """Return what these words mean, and what else they may.

    Raises:
        QuestionError: Nothing; with the nearest of everything that has a name.
    """
    text = " ".join(words).strip()
    found = list(dict.fromkeys(_meanings(text)))
    if not found:
        raise QuestionError(_unknown(text))
    return found[0], tuple(found[1:])


class NoPortError(QuestionError):
    """What was given for a port is none."""

    def __init__(self, asked: str, why: str) -> None:
        super().__init__(f"--port {asked}: {why}")
        self.why = why
        """Without what was asked, for options of other names."""


def port_of(text: str) -> tuple[str | None, int]:
    """Read what a flag takes for a port: ``8080``, ``:8080``, ``0.0.0.0:8080``, ``[::1]:8080``, ``http``.

    Returns:
        The address, None where none was said, and the port.

    Raises:
        NoPortError: It is none of them.
    """
    asked = text.strip()
    if is_whole(asked):
        if 1 <= int(asked) <= _LARGEST_PORT:
            return None, int(asked)
        raise NoPortError(asked, f"ports are 1 to {_LARGEST_PORT}")
    end = _END.match(asked)
    if end and 1 <= int(end["port"]) <= _LARGEST_PORT:
        host = end["six"] or end["host"]
        named = None if host in ("", "*", "any") else "127.0.0.1" if host == "localhost" else host
        return named, int(end["port"])
    service = _service(asked)
    if service is None:
        raise NoPortError(clean(asked, 60), "no port; give it as 8080, :8080, [::1]:8080 or http")
    return None, service


def _meanings(text: str) -> Iterator[Meaning]:
    said = list(_said_kinds(text))
    yield from said or _numbers_and_ends(text)
    yield from _pages(text)
    yield from () if said else _process_of_a_port_s_number(text)
    service = _service(text)
    if service is not None:
        yield Meaning("port", str(service), f"port {service}")
    yield from _processes(text)
    yield from _lines_of_logs(text)


def _process_of_a_port_s_number(text: str) -> Iterator[Meaning]:
    """Of a number that nobody listens on: the process that has it, unless it is the kernel's own."""
    from tcpdoctor.kernel.processes import read_process, read_task

    if not is_whole(text) or not 1 <= int(text) <= _LARGEST_PORT:
        return
    if not is_recording() and not os.path.exists(f"/proc/{int(text)}"):
        return
    task, process = read_task(int(text)), read_process(int(text))
    if isinstance(task, Missing) or task.kernel or task.zombie or _listens(int(text)):
        return
    if not isinstance(process, Missing):
        yield Meaning("pid", str(int(text)), f"the process {process.name}")


_KINDS = {
    "port": "port",
    "tcp": "port",
    "udp": "port",
    "pid": "pid",
    "process": "pid",
    "state": "state",
    "sysctl": "sysctl",
    "option": "option",
    "error": "error",
    "rule": "rule",
}
"""Words before a word that say what it is, by the question."""
_PROTOCOL = re.compile(
    r"(?:(?P<before>tcp|udp)[/:])?(?P<port>[\w.+-]+)(?:/(?P<behind>tcp|udp))?", re.IGNORECASE
)


def _said_kinds(text: str) -> Iterator[Meaning]:
    """``port 8080``, ``pid=811``, ``udp 53``, ``8080/tcp``, ``tcp:8080``: the word says itself what it is."""
    kind, _, word = re.sub(r"^(port|pid)[:=](?=\d+$)", r"\1 ", text.lower()).partition(" ")
    protocol = _PROTOCOL.fullmatch(text)
    if protocol and (protocol["before"] or protocol["behind"]):
        kind, word = (protocol["before"] or protocol["behind"]).lower(), protocol["port"].lower()
    question = _KINDS.get(kind)
    word = text[len(text) - len(word) :].strip() if word and not protocol else word
    if question is None or not word or " " in word:
        return
    if question == "port":
        with suppress(QuestionError):
            port = port_of(word)[1]
            udp = kind == "udp"
            yield Meaning("port", word if ":" in word else str(port), f"port {port}", udp)
    elif question == "pid":
        if is_whole(word):
            yield Meaning("pid", word, f"process {word}")
        yield from _processes(word)
    else:
        with suppress(QuestionError):
            name = _FINDERS[question](word)
            yield Meaning(question, name, name)


def _processes(text: str) -> Iterator[Meaning]:
    """Those called so, or by the path of their program, or of a unit of systemd."""
    name = text.rpartition("/")[2] if text.startswith("/") and " " not in text else text
    if processes_called(name):
        called = "of" if name.endswith(_UNIT) else "called"
        yield Meaning("pid", name, f"the processes {called} {name}")


_URL = re.compile(
    r"^(?:jdbc:)?(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[^@/?#\s]*@)?"
    r"(?P<host>\[[0-9a-f:.%\w]+\]|[^:/?#\s\[\]]*)(?::(?P<port>\d{1,5}))?(?:[/?#]\S*)?$",
    re.IGNORECASE,
)
_TWO_WORDS = re.compile(r"^(?:(?:telnet|nc|ncat) )?(?P<host>[\w.:-]+) (?P<port>\d{1,5})$")


def _end_of(text: str) -> str:
    """Return HOST:PORT for a URL, whose scheme may say the port, and for ``HOST PORT``; else the text."""
    url = _URL.match(text)
    if url is not None:
        scheme = url["scheme"].lower()
        port = url["port"] or _SCHEMES.get(scheme) or _service(scheme)
        return f"{url['host']}:{port}" if port else text
    words = _TWO_WORDS.match(text)
    if words is not None and (
        words["host"] in _LOOPBACK or _is_numeric(words["host"]) or "." in words["host"]
    ):
        return (
            f"[{words['host']}]:{words['port']}"
            if ":" in words["host"]
            else f"{words['host']}:{words['port']}"
        )
    return text


_SCHEMES = {
    "postgres": 5432,
    "postgresql": 5432,
    "redis": 6379,
    "amqp": 5672,
    "mongodb": 27017,
    "ws": 80,
    "wss": 443,
}
"""Where the name of a scheme is not that of a service."""


def _numbers_and_ends(text: str) -> Iterator[Meaning]:
    text = _end_of(text)
    if is_whole(text):
        number = int(text)
        if 1 <= number <= _LARGEST_PORT:
            yield Meaning("port", str(number), f"port {number}")
        elif _LARGEST_PORT < number <= _LARGEST_PID:
            yield Meaning("pid", str(number), f"process {number}")
        return
    end = _END.match(text)
    if end is None or not 1 <= int(end["port"]) <= _LARGEST_PORT:
        return
    host, port = end["six"] or end["host"], int(end["port"])
    as_port = Meaning("port", text if host not in _WILDCARDS else f"{port}", f"port {port} here")
    if host in _WILDCARDS:
        yield as_port._replace(value=text if host in ("0.0.0.0", "::") else str(port))
        return
    connection = Meaning("connect", text, f"a connection to {text}")
    if not _is_local(host):
        yield connection
    elif _listens(port):
        yield from (as_port, connection)
    else:
        yield from (connection, as_port)


def _pages(text: str) -> Iterator[Meaning]:
    """Errors, states, settings, options and rules that are called so, in any usual spelling."""
    for question, find in _FINDERS.items():
        if question in ("state", "sysctl", "option") and text.isdecimal():
            continue
        with suppress(QuestionError):
            name = find(text)
            yield Meaning(question, name, name)


def _error(text: str) -> str:
    from tcpdoctor.knowledge.error_pages import find_error

    if ":" in text or (" " in text and re.search(r"\d", text)):
        raise QuestionError("a line of a log, which is looked at last")
    return find_error(text).name


def _state(text: str) -> str:
    from tcpdoctor.knowledge.state_pages import find_state

    return find_state(text).key


def _sysctl(text: str) -> str:
    from tcpdoctor.knowledge.sysctl_pages import find_sysctl

    return find_sysctl(text).name


def _option(text: str) -> str:
    from tcpdoctor.knowledge.option_pages import find_option

    return find_option(text).name


def _rule(text: str) -> str:
    from tcpdoctor.answers.rules import load_rules

    spelt = re.sub("[_ ]", "-", text.lower())
    if not re.fullmatch(r"(?:[a-z0-9-]+/)?[a-z][a-z0-9]*(?:-[a-z0-9]+)+", spelt):
        raise QuestionError("rules are called so-and-so")
    rule, _ = load_rules().find(spelt)
    return rule.id


_FINDERS: dict[str, Callable[[str], str]] = {
    "error": _error,
    "state": _state,
    "sysctl": _sysctl,
    "option": _option,
    "rule": _rule,
}


def _service(text: str) -> int | None:
    text = text.lower()
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", text):
        return None
    try:
        return socket.getservbyname(text, "tcp")
    except OSError:
        return _SERVICES.get(text)


def processes_called(name: str) -> tuple[int, ...]:
    """Return the processes here whose name is this one, as the kernel has it: cut to 15 bytes.

    ``nginx.service`` stands for those of a unit of systemd. We are not among them: who asks for python3 does
    not mean the one that answers.
    """
    if not name or len(name) > 256 or "/" in name:
        return ()
    if name.endswith(_UNIT):
        return _processes_of_unit(name)
    wanted = name.encode("utf-8", "replace")[:15]
    if is_recording():
        from tcpdoctor.kernel.processes import list_programs

        return tuple(pid for pid, called in list_programs() if called.encode()[:15] == wanted)
    found = []
    ours = os.readlink("/proc/self")
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and entry != ours:
            try:
                with open(f"/proc/{entry}/comm", "rb") as comm:
                    if comm.read().rstrip(b"\n") == wanted:
                        found.append(int(entry))
            except OSError:  # it has ended, or is hidden
                continue
    return tuple(sorted(found))


_UNIT = ".service"


def _processes_of_unit(unit: str) -> tuple[int, ...]:
    """Return the processes in the control group of a unit of systemd, or below it."""
    wanted = unit.encode("utf-8", "replace")
    if is_recording():
        from tcpdoctor.kernel.processes import list_programs, read_process

        known = [(pid, read_process(pid)) for pid, _ in list_programs()]
        return tuple(pid for pid, one in known if not isinstance(one, Missing) and one.unit == unit)
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cgroup", "rb") as groups:
                if any(wanted in line.rstrip(b"\n").split(b"/") for line in groups):
                    found.append(int(entry))
        except OSError:  # it has ended, or is hidden
            continue
    return tuple(sorted(found))


def _is_local(host: str) -> bool:
    from tcpdoctor.kernel.addresses import read_local_addresses

    if host in _LOOPBACK:
        return True
    local = read_local_addresses()
    address = host.partition("%")[0]
    try:
        socket.inet_pton(socket.AF_INET, address)
        return local.has_ipv4(address) is True
    except OSError:
        pass
    try:
        wanted = socket.inet_pton(socket.AF_INET6, address)
    except OSError:
        return False  # a name: where it leads is asked when it is connected to
    if isinstance(local.ipv6, Missing):
        return False
    return any(socket.inet_pton(socket.AF_INET6, one.address) == wanted for one in local.ipv6)


def _listens(port: int) -> bool:
    from tcpdoctor.kernel.sockets import read_listeners

    listeners = read_listeners()
    return not isinstance(listeners, Missing) and any(one.local.port == port for one in listeners)


def _lines_of_logs(text: str) -> Iterator[Meaning]:
    """A line of the kernel's log, or one that holds an error as programs write it."""
    from tcpdoctor.knowledge.error_pages import error_in_line
    from tcpdoctor.knowledge.log_lines import log_line_of, own_limit_of

    # some languages do without blanks, and a class of exceptions stands alone
    if " " not in text and text.isascii() and not _ATOMS.search(text):
        return
    if own_limit_of(text) is not None:
        return  # whatever address stands in it
    line = log_line_of(text)
    if line is not None:
        yield Meaning(line.flag.removeprefix("--"), line.name, line.name)
    # what the kernel's log says is no error of a call, even where it says "timed out"
    name = error_in_line(text) if line is None else None
    if name is not None:
        yield Meaning("error", name, name)
    if line is not None or name is not None or _OPENS.search(text):
        ends = _end_in_line(text)
        yield from _ends_to_bind(ends) if name == "EADDRINUSE" or _BINDS.search(text) else ends


_ATOMS = re.compile(r"[{,]e[a-z]{7,}[},]|\bWSAE[A-Z]+\b|^(?:\w+(?:\.|::))+[A-Z]\w+$")
"""Erlang's ``{listen_error,eaddrinuse}``, Winsock's names and ``Net::ReadTimeout``, which have no blanks."""
_OPENS = re.compile(r"\b(?:bind|binding|listen|listening|connect|connecting|curl)\b", re.IGNORECASE)
"""A line that has one of them and an end is about that end, also where it names no error."""
_BINDS = re.compile(r"\b(?:bind|listen|make_sock)\b", re.IGNORECASE)


def _ends_to_bind(ends: Iterator[Meaning]) -> Iterator[Meaning]:
    """The port of what may be a connection too: a line about bind() is about a server of this host."""
    for one in ends:
        if one.question == "connect":
            yield Meaning("port", one.value, f"port {one.value.rpartition(':')[2]} here")
        else:
            yield one


_BEFORE_END = (
    "tcp",
    "tcp4",
    "tcp6",
    "to",
    "connect",
    "econnrefused",
    "econnreset",
    "etimedout",
    "port",
    "on",
)


_HOST_AND_PORT = re.compile(
    r"\bto (?:host |server at )?[\"']?([\w.-]+)[\"']?(?: \([\w.:]+\))?,? port (\d{1,5})\b"
    r"|/dev/tcp/([\w.:-]+)/(\d{1,5})\b"
    r"|\(([\d.]{7,}|[0-9a-f:]{3,})\), [Pp]ort (\d{1,5})\b"
    r"|\('([\w.:-]*)', (\d{1,5})[,)]"
    r"|\bhost='([\w.:-]+)', port=(\d{1,5})\b"
    r"|\bhost port for ([\d.]+):(\d{1,5}):"
    r"|\blisten\((\*|[\w.:]+), (\d{1,5})\)"
    r"|\bon host \\?\"([\w.:-]+)\\?\" (?:\([\w.:]+\) )?and accepting TCP/IP connections on port (\d{1,5})\b"
)
"""As ssh, curl, libpq (two ways), Docker and dovecot write it, as Python shows an address, and urllib3."""


def _end_in_line(text: str) -> Iterator[Meaning]:
    """The port or the connection that a line is about: of ``a->b`` the peer, else the first that it names."""
    apart = _HOST_AND_PORT.search(text)
    if apart is not None:
        host, port = filter(None, apart.groups())
        yield from _numbers_and_ends(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        return
    text = _OF_NODE.sub(r"\1[\2]:\3", text)
    words = [_bracket_free(word) for word in re.split(r"[\s()'\",@]+|->|//?", text)]
    ends = [
        end for before, word in zip(["", *words], words, strict=False) for end in _named_end(before, word)
    ]
    if ends:
        yield from ends[-1] if "->" in text else ends[0]


_OF_NODE = re.compile(r"(\bE[A-Z]+ )((?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}):(\d{1,5})\b")
"""Node.js writes an address of IPv6 and the port without brackets: ``connect ECONNREFUSED ::1:3306``."""


def _bracket_free(word: str) -> str:
    """A word of a line without what ends the sentence, and ``[0.0.0.0:80]`` of haproxy without brackets."""
    bare = word.lstrip(".,;'\"").rstrip(".,;:?!'\"")
    bare = bare.removesuffix("]") if "[" not in bare else bare
    return bare[1:-1] if re.fullmatch(r"\[[^\[\]]*\.[^\[\]]*:\d{1,5}\]", bare) else bare


def _named_end(before: str, word: str) -> Iterator[list[Meaning]]:
    """The meanings of a word of a line if it is an end: a place in a source file (``app.py:42``) is none."""
    if word.isdecimal() and before.lower() == "port":
        yield list(_numbers_and_ends(word))
        return
    end = _END.match(word.replace(":::", "[::]:", 1) if word.startswith(":::") else word)
    if end is None:
        return
    host = end["six"] or end["host"]
    if host in _WILDCARDS:
        yield list(_numbers_and_ends(end["port"]))
    elif host in _LOOPBACK or _is_numeric(host) or (before.lower() in _BEFORE_END and not host.isdecimal()):
        yield list(_numbers_and_ends(word))


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _unknown(text: str) -> str:
    """Say that nothing is called so, with the nearest of everything, or with nothing rather than nonsense."""
    shown = beginning_of(text, 60)
    said = _unknown_number(text) or _unknown_host(text) or _no_error_of_tcp(text) or _several(text)
    if said:
        return said
    near = _near(text) or _first_that_means(text)
    if near:
        return f"nothing here is called {shown!r}; did you mean: tcpdoctor explain {_either(near)}"
    return (
        f"nothing here is called {shown!r}; a word is a port, HOST:PORT, an error, a state, a sysctl, "
        "a socket option, a rule, a service or a process"
    )


def _first_that_means(text: str) -> list[str]:
    """Of several words the first, where that alone means something and is no number."""
    first, *others = text.split()
    return [first] if others and not first.isdecimal() and any(_meanings(first)) else []


def _either(names: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _unknown_number(text: str) -> str | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return f"{text[:20]} is no port (1 to {_LARGEST_PORT}), no process and no error that TCP gives"


def _unknown_host(text: str) -> str | None:
    """A host alone: what is asked of it takes a port."""
    looks_so = re.fullmatch(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}", text) and not text.endswith(_UNIT)
    if not looks_so and not _is_numeric(text) and text not in _LOOPBACK:
        return None
    end = f"[{text}]" if ":" in text else text
    return f"{text} is a host; a connection has a port too: tcpdoctor explain {end}:PORT"


def _no_error_of_tcp(text: str) -> str | None:
    """A line of a program that tells of something else."""
    from tcpdoctor.knowledge.log_lines import no_error_of_tcp

    return no_error_of_tcp(text)


def _several(text: str) -> str | None:
    """Several words that mean something each."""
    words = text.split()
    if len(words) < 2 or not all(any(_meanings(word)) for word in words[:2]):
        return None
    return f"explain answers one question at a time: tcpdoctor explain {words[0]}"


_MOST_NEAR = 6
_BEGINS, _BEGINS_A_STATE = 4, 3
"""Letters of a word that is only begun; of states there are few."""


def _near(text: str) -> list[str]:
    """The nearest name of all there are, or the few that have the word as a part."""
    from difflib import get_close_matches  # only a mistake pays for it

    from tcpdoctor.answers.rules import load_rules
    from tcpdoctor.kernel.processes import list_programs
    from tcpdoctor.knowledge.error_pages import error_names
    from tcpdoctor.knowledge.option_pages import option_names
    from tcpdoctor.knowledge.resource import bare
    from tcpdoctor.knowledge.state_pages import state_keys
    from tcpdoctor.knowledge.sysctl_pages import names_to_suggest

    names = [*error_names(), *state_keys(), *option_names(), *(rule.id for rule in load_rules().rules)]
    sysctls = {name: name.rpartition(".")[2] for name in names_to_suggest()}
    spelled = {bare(name): name for _, name in list_programs() if re.fullmatch(r"[\w.+-]{4,}", name)}
    spelled |= {bare(name): name for name in names}
    spelled |= {bare(full): name for full, name in sysctls.items()}
    spelled |= {bare(name): name for name in sysctls.values()}
    begun = list(dict.fromkeys(name for key, name in spelled.items() if key.startswith(bare(text))))
    everything = (*names, *sysctls.values())
    parts = [name for name in everything if text.lower() in re.split(r"[-_]", name.lower())]
    said = list(dict.fromkeys([*begun, *parts])) if len(bare(text)) >= _BEGINS else []
    if 0 < len(said) <= _MOST_NEAR:
        return said
    states = [name for name in state_keys() if name in begun]
    if len(bare(text)) >= _BEGINS_A_STATE and 0 < len(states) <= _MOST_NEAR:
        return states
    near = get_close_matches(bare(text), spelled, n=1, cutoff=0.78)
    if near:
        return [spelled[near[0]]]
    return []


def pids_of(text: str) -> tuple[int, ...]:
    """Return the process that is meant by its number, or those that are called so.

    Raises:
        QuestionError: There is none.
    """
    if is_whole(text.strip().removeprefix("-")):
        return (int(text),)
    pids = processes_called(text)
    if not pids:
        raise QuestionError(f"--pid {text[:60]}: no process here is called so; give its number or its name")
    if len(pids) > _MOST_PROCESSES:
        shown = ", ".join(map(str, pids[:10]))
        raise QuestionError(
            f"--pid {text[:60]}: {len(pids)} processes are called so: {shown} ...; give the one that is meant"
        )
    return tuple(pids)


_MOST_PROCESSES = 50
"""More processes of one name are not answered at once."""
