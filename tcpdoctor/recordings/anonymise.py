"""What was recorded, without what tells whose host it is: the same thing gets the same name.

Kept are kernel, states, counters, settings, ports, pids, uids and times, the names of processes, units and
containers unless those are to go as well, and what is the same on every host: loopback, wildcard and
link-local prefixes, and whether an address is IPv4, IPv6 or one mapped into the other.

A name is made with a key. With the same key, such as one of this boot, two recordings give the same thing the
same name, so that they can be compared; nobody who has not the key can try out what a name stands for.
"""

import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from tcpdoctor.kernel.addresses import LocalPrefix
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.recorded import boot_id
from tcpdoctor.kernel.typed_json import is_list, is_mapping, is_record, is_union
from tcpdoctor.recordings.recording import Recording

T = TypeVar("T")
_Change: TypeAlias = Callable[[Any], Any]
_Kind: TypeAlias = Literal[
    "address",
    "network",
    "process",
    "unit",
    "group",
    "container",
    "file",
    "command",
    "words",
    "host",
    "netns",
    "device",
]

REPLACED: Mapping[tuple[str, str], _Kind] = {
    ("Endpoint", "address"): "address",
    ("Destination", "source"): "address",
    ("Destination", "address"): "address",
    ("Holder", "name"): "process",
    ("Process", "name"): "process",
    ("Process", "unit"): "unit",
    ("Process", "container"): "container",
    ("Process", "executable"): "file",
    ("Process", "command"): "command",
    ("Snapshot", "host"): "host",
    ("Snapshot", "namespace_name"): "netns",
    ("Kin", "name"): "process",
    ("Kin", "arguments"): "words",
    ("Kin", "unit_path"): "group",
    ("Standing", "variables"): "words",
    ("Place", "path"): "group",
    ("Place", "unit"): "unit",
    ("Place", "unit_path"): "group",
    ("Place", "slice"): "unit",
    ("Container", "id"): "container",
    ("Container", "pod"): "container",
    ("Container", "task"): "container",
    ("Surroundings", "groups"): "group",
    ("RouteTo", "address"): "address",
    ("Route", "source"): "address",
    ("Route", "gateway"): "address",
    ("Route", "interface"): "device",
    ("NextHop", "address"): "address",
    ("InterfaceAddress", "address"): "address",
    ("InterfaceAddress", "interface"): "device",
    ("Seen", "options"): "device",  # of which SO_BINDTODEVICE alone has a name in it
    ("Goal", "address"): "network",
    ("Redirect", "address"): "network",
    ("Redirect", "where"): "words",
    ("Filters", "named"): "words",
    ("Filters", "others"): "words",
}
"""What each text is the name of, by record and field."""

NAMES: tuple[_Kind, ...] = ("process", "unit", "container")
"""What may stay: it tells which programs run, and seldom whose they are."""

KEPT = frozenset(
    {
        ("Snapshot", "kernel"),
        ("Snapshot", "sysctls"),
        ("Snapshot", "counters"),
        ("Snapshot", "sockstat"),
        ("Snapshot", "unread"),
        ("Snapshot", "untold"),
        ("Detail", "reason"),
        ("Census", "source"),
        ("Translation", "protocol"),
        ("Container", "runtime"),
        ("Standing", "halted"),
        ("Lineage", "waits"),
        ("Route", "kind"),
        ("NextHop", "neighbour"),
        ("NoRoute", "errno"),
        ("NoRoute", "why"),
        ("Redirect", "asks"),
        ("Redirects", "not_looked"),
        ("Filters", "not_looked"),
    }
)
"""Fields with text that tell nothing of a host's owner: the kernel's own words, and ours."""


def anonymised(recording: Recording, key: bytes, *, names: bool) -> Recording:
    """Return a recording without addresses and names.

    Args:
        recording: As it was taken.
        key: What names are made with; kept to oneself.
        names: Replace the names of processes, units and containers as well.
    """
    disguise = Disguise(key, names=names)
    disguise.know(recording)
    sockets, around = recording.sockets, recording.around
    return recording._replace(
        samples=disguise.of(recording.samples),
        sockets=sockets if isinstance(sockets, Missing) else tuple(map(disguise.of, sockets)),
        udp=recording.udp if isinstance(recording.udp, Missing) else tuple(map(disguise.of, recording.udp)),
        processes={pid: disguise.of(process) for pid, process in recording.processes.items()},
        interfaces={disguise.name("device", name): index for name, index in recording.interfaces.items()},
        around=around if isinstance(around, Missing) else disguise.of(around),
    )


def key_of_this_boot() -> bytes:
    """Return the same key until the machine boots again, which nobody else can know; else one of its own."""
    return (boot_id() or os.urandom(16).hex()).encode()


class Disguise:
    """Gives each thing another name, and the same to the same."""

    def __init__(self, key: bytes, *, names: bool = False, keep: Collection[str] = ()) -> None:
        """Take what decides.

        Args:
            key: What names are made with.
            names: Replace the names of processes, units and containers as well.
            keep: Of all names those that may stay, such as ``nginx``.
        """
        self._key = key
        self._kept_kinds: tuple[_Kind, ...] = () if names else (*NAMES, "group")
        self._keep = frozenset(keep)
        self._programs: frozenset[str] = frozenset()
        self._given: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()
        self._changes: dict[Any, _Change | None] = {}

    def know(self, recording: Recording) -> None:
        """Learn the names of programs, which stay in command lines where they stay at all."""
        around = recording.around
        names = {process.name for process in recording.processes.values()}
        names |= set() if isinstance(around, Missing) else {kin.name for kin in around.kin}
        self._programs = frozenset(names)

    def of(self, record: T) -> T:
        """Return a record with its texts replaced, however deep they are."""
        change = self._change_of(type(record))
        return record if change is None else change(record)

    def name(self, kind: _Kind, text: str) -> str:
        """Return the other name of a thing."""
        if kind in self._kept_kinds or text in self._keep:
            return text
        known = self._given.get((kind, text))
        if known is None:
            known = self._given[kind, text] = self._named(kind, text)
        return known

    def _named(self, kind: _Kind, text: str) -> str:
        match kind:
            case "address":
                return self._address(text)
            case "network":
                address, slash, bits = text.partition("/")
                return self.name("address", address) + slash + bits if address else text
            case "unit":
                return self._unit(text)
            case "group":
                return "/".join(self._unit(part) if part else "" for part in text.split("/"))
            case "words":
                return _WORD.sub(lambda found: self._word(found[0]), text)
            case "device" if _USUAL_DEVICE.fullmatch(text):
                return text
        return self._numbered(kind, text)

    def _unit(self, text: str) -> str:
        """A unit or a folder of control groups; what kind of unit it is decides how it is stopped."""
        if _USUAL_GROUP.fullmatch(text):
            return text
        stem, dot, kind = text.rpartition(".")
        ends = dot + kind if stem and kind in _KINDS_OF_UNIT else ""
        return self._numbered("unit", text) + ends

    def _word(self, word: str) -> str:
        """A part of a command line, or of where a packet rule stands; whose it is tells all but the usual."""
        if word in USUAL_WORDS or word.strip("-") in USUAL_WORDS or _is_short_number(word):
            return word
        if "process" in self._kept_kinds and (word in self._programs or _IDENTITY.fullmatch(word)):
            return word
        try:
            return self.name("address", word)
        except ValueError:
            return self._numbered("word", word)

    def _numbered(self, kind: str, text: str) -> str:
        return f"{kind}-{self._digest(kind, text)[:3].hex()}"

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{kind} {text}".encode("utf-8", "surrogateescape"), hashlib.sha256)

    def _address(self, address: str) -> str:
        """Another one: of 10.0.0.0/8, or of 2001:db8::/32 (RFC 3849)."""
        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            return "::ffff:" + self.name("address", str(parsed.ipv4_mapped))
        if parsed.is_loopback or parsed.is_unspecified:
            return address
        start, bits = _SPACES[parsed.version, parsed.is_link_local]
        number = int.from_bytes(self._digest("address", address)[:8], "big")
        while True:
            found = str(ipaddress.ip_address(start) + number % ((1 << bits) - 2) + 1)
            if found not in self._taken:
                self._taken.add(found)
                return found
            number += 1

    # What there is to change in a type is found once, from its hints.

    def _change_of(self, hint: Any) -> _Change | None:
        if hint not in self._changes:
            self._changes[hint] = None  # a type that holds itself
            self._changes[hint] = self._made(hint)
        return self._changes[hint]

    def _made(self, hint: Any) -> _Change | None:
        if is_record(hint):
            return self._of_record(hint)
        if is_union(hint):
            return self._of_union(get_args(hint))
        match get_origin(hint), get_args(hint):
            case (origin, (item, *rest)) if is_list(origin, rest):
                change = self._change_of(item)
                return None if change is None else lambda values: tuple([change(value) for value in values])
            case (origin, items) if origin is tuple and items:
                return self._of_tuple([self._change_of(item) for item in items])
            case (origin, (key, value)) if is_mapping(origin):
                return self._of_mapping(self._change_of(key), self._change_of(value))
        return None

    def _prefix(self, prefix: LocalPrefix) -> LocalPrefix:
        """A single address as elsewhere; of a range of them the first, so that it is one of as many."""
        text = str(ipaddress.IPv4Address(prefix.network))
        return prefix._replace(network=int(ipaddress.IPv4Address(self.name("address", text))))

    def _of_record(self, record: Any) -> _Change | None:
        if record is LocalPrefix:
            return self._prefix
        hints = get_type_hints(record)
        changes: list[tuple[int, _Change]] = []
        for place, field in enumerate(record._fields):
            kind = REPLACED.get((record.__name__, field))
            change = self._change_of(hints[field]) if kind is None else self._renaming(kind)
            if change is not None:
                changes.append((place, change))
        if not changes:
            return None

        def changed(value: Any) -> Any:
            parts = list(value)
            for place, change in changes:
                parts[place] = change(parts[place])
            return record._make(parts)

        return changed

    def _renaming(self, kind: _Kind) -> _Change:
        """What replaces a text, the texts of a list, or those that a mapping leads to."""

        def renamed(value: Any) -> Any:
            if isinstance(value, str):
                return self.name(kind, value)
            if isinstance(value, Mapping):
                return {
                    key: renamed(text) if kind != "device" or key == "SO_BINDTODEVICE" else text
                    for key, text in value.items()
                }
            return tuple(map(renamed, value)) if type(value) is tuple else value

        return renamed

    def _of_union(self, members: tuple[Any, ...]) -> _Change | None:
        changes = [(member, self._change_of(member)) for member in members]
        records = {member: change for member, change in changes if is_record(member) and change}
        others = [change for member, change in changes if not is_record(member) and change]
        if not records and not others:
            return None

        def changed(value: Any) -> Any:
            if value is None or isinstance(value, Missing):
                return value
            change = records.get(type(value))
            if change is None and others and not hasattr(value, "_fields"):
                change = others[0]
            return value if change is None else change(value)

        return changed

    @staticmethod
    def _of_tuple(changes: list[_Change | None]) -> _Change | None:
        if not any(changes):
            return None
        each = [change or _same for change in changes]
        return lambda values: tuple([change(value) for change, value in zip(each, values, strict=True)])

    @staticmethod
    def _of_mapping(key: _Change | None, value: _Change | None) -> _Change | None:
        if key is None and value is None:
            return None
        of_key, of_value = key or _same, value or _same
        return lambda mapping: {of_key(name): of_value(item) for name, item in mapping.items()}


def _same(value: Any) -> Any:
    return value


def _is_short_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= len("65535")


_WORD = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|[^\s/=:,;@()\[\]\"'|&{}?%+]+")
"""An IPv6 address, or what stands between separators."""
_IDENTITY = re.compile(r"[0-9a-f]{64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Of a container: it stays where containers do."""
_USUAL_DEVICE = re.compile(
    r"lo|(?:eth|ens|eno|enp|wlan|wlp|bond|team|dummy|ifb|tun|tap|wg|veth|vnet|virbr|lxcbr|docker|cni|flannel|br)"
    r"[0-9]{0,4}(?:[spdf][0-9]{1,4}){0,4}(?:np[0-9]{1,3})?(?:\.[0-9]{1,4})?|(?:veth|br-|cali)[0-9a-f]{6,12}"
)
"""As the kernel, systemd and container engines number them; a MAC address (``enx...``) is none."""
_KINDS_OF_UNIT = frozenset({"service", "scope", "socket", "slice", "mount", "swap"})
_USUAL_GROUP = re.compile(
    r"(?:-|system|user|machine|init|app|session|background|kubepods(?:-[a-z]+)?|user-[0-9]{1,10})\.slice"
    r"|session-c?[0-9]{1,10}\.scope|init\.scope|(?:user|user-runtime-dir)@[0-9]{1,10}\.service"
    r"|docker|lxc|kubepods|payload|supervisor|init"
)
_WORDS = """
nft table chain ip ip6 inet of another family nat filter mangle raw security IPVS ipvsadm -Ln
iptables-legacy ip6tables-legacy PREROUTING INPUT FORWARD OUTPUT POSTROUTING prerouting input forward
output postrouting DOCKER DOCKER-USER dstnat srcnat KUBE-SERVICES KUBE-NODEPORTS docker-proxy
rootlesskit-docker-proxy rootlesskit conmon conmonrs rootlessport rootlessport-child
containers-rootlessport containers-rootlessport-child slirp4netns pasta pasta.avx2 passt passt.avx2
containerd-shim containerd-shim-runc-v1 containerd-shim-runc-v2 kube-proxy dockerd containerd crio
kubelet k3s-server k3s-agent lxd incusd forkproxy sshd sshd-session dropbear ssh xinetd inetd
inetutils-inetd epmd supervisord dnsmasq qemu-kvm qemu-system-x86_64 qemu-system-aarch64 qemu-system-arm
qemu-system-i386 qemu-system-ppc64 qemu-system-riscv64 VBoxHeadless VirtualBoxVM runsv runsvdir
s6-supervise s6-svscan supervise svscan nomad uwsgi uwsgi-core supervise-daemon circusd systemd init
busybox tini dumb-init catatonit docker-init npm node python python3 perl ruby php java sh bash dash ash
zsh ksh gunicorn celery nginx apache2 httpd php-fpm haproxy postgres PM2 God Daemon container-ip
container-port host-ip host-port proto tcp udp id namespace moby k8s.io address name cid n c b bundle
netns t tcp-ports emperor Emperor vassal master worker process listener session priv net mux monitor lxc
start comment startvm config m e u r f s pool guest debug-threads on -libvirt L D R W N usr bin sbin lib
local opt etc var run snap libexec unix http https sock supervisor.sock supervisor service runit user
"""
USUAL_WORDS = frozenset(_WORDS.split())
"""Words that tell nothing of a host's owner, and by which a program's part is known: of the places of packet
rules, of programs that hold a port for others or keep others running, and of what these are given."""


_SPACES = {
    (4, False): ("10.0.0.0", 24),
    (4, True): ("169.254.0.0", 16),
    (6, False): ("2001:db8::", 64),
    (6, True): ("fe80::", 64),
}
"""By version, and whether an address is link-local: where the others begin, and how many there are."""
