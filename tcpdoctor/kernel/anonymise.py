"""A recorded look without what tells whose host it is: addresses and names give way, the same to the same.

Kept are kernel, states, counters, sysctls, ports, pids and times, and what is the same on every host:
loopback, wildcard and link-local prefixes, and whether an address is IPv4, IPv6 or one mapped into the
other. Two texts that were equal stay equal, and two that differed stay different.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Samples

_Replace: TypeAlias = Callable[[str], str]

KEPT = frozenset(
    {
        ("Snapshot", "kernel"),
        ("Snapshot", "sysctls"),
        ("Snapshot", "counters"),
        ("Snapshot", "sockstat"),
        ("Census", "source"),
    }
)
"""Fields with text that tell nothing of a host's owner: the kernel's own words."""


def anonymise(samples: Samples, keep: Collection[str] = ()) -> Samples:
    """Return the samples with addresses and names replaced, consistently over both.

    Args:
        samples: One or two looks.
        keep: Names of processes that may stay, such as ``nginx``.
    """
    addresses = _Addresses()
    names, texts = _Numbered("process", keep), _Numbered("text", keep)
    rules: Mapping[tuple[str, str], _Replace] = {
        ("Endpoint", "address"): addresses,
        ("Destination", "source"): addresses,
        ("Destination", "address"): addresses,
        ("Holder", "name"): names,
        ("Process", "name"): names,
        ("Process", "executable"): texts,
        ("Process", "command"): texts,
        ("Process", "unit"): texts,
        ("Process", "container"): texts,
        ("Snapshot", "host"): _Numbered("host"),
        ("Snapshot", "namespace_name"): _Numbered("namespace"),
    }
    found: Samples = _replaced(samples, rules)
    return found


class _Numbered:
    """Gives each distinct text a name with a number."""

    def __init__(self, kind: str, keep: Collection[str] = ()) -> None:
        self._kind = kind
        self._keep = frozenset(keep)
        self._given: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        if text in self._keep:
            return text
        return self._given.setdefault(text, f"{self._kind}-{len(self._given) + 1}")


class _Addresses:
    """Gives each address another one: of 10.0.0.0/8, or of 2001:db8::/32 (RFC 3849)."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}

    def __call__(self, address: str) -> str:
        import ipaddress

        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            return "::ffff:" + self(str(parsed.ipv4_mapped))
        if parsed.is_loopback or parsed.is_unspecified:
            return address
        if address not in self._given:
            self._given[address] = self._next(parsed.version, link_local=parsed.is_link_local)
        return self._given[address]

    def _next(self, version: int, *, link_local: bool) -> str:
        import ipaddress

        starts = {
            (4, False): "10.0.0.0",
            (4, True): "169.254.0.0",
            (6, False): "2001:db8::",
            (6, True): "fe80::",
        }
        start = ipaddress.ip_address(starts[version, link_local])
        return str(start + len(self._given) + 1)


def _replaced(value: Any, rules: Mapping[tuple[str, str], _Replace]) -> Any:
    """Return a value with the texts replaced for whose field there is a rule, however deep they are."""
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        if fields is None:
            return tuple([_replaced(item, rules) for item in value])
        kind = type(value).__name__
        return type(value)(
            *[
                _by_rule(item, rules.get((kind, field)), rules)
                for field, item in zip(fields, value, strict=True)
            ]
        )
    if isinstance(value, Mapping):
        return {_replaced(key, rules): _replaced(item, rules) for key, item in value.items()}
    return value


def _by_rule(value: Any, rule: _Replace | None, rules: Mapping[tuple[str, str], _Replace]) -> Any:
    if rule is not None and isinstance(value, str):
        return rule(value)
    return value if isinstance(value, Missing) else _replaced(value, rules)
