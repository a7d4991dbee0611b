"""A small vocabulary, a rule and subjects, for tests of the language and of rules."""

from collections.abc import Mapping, Sequence

from tcpdoctor.diagnosis.expression import Context
from tcpdoctor.diagnosis.rule import Rule, parse_rule
from tcpdoctor.facts.subject import Fact, Scope, Subject
from tcpdoctor.facts.value import BYTE, COUNT, PAGE, RATIO, SECOND, Dimension, Value


def _fact(name: str, dimension: Dimension | None, scope: Scope, kind: str = "gauge") -> Fact:
    return Fact(name, dimension, scope, kind, f"What {name} means.", f"/proc/{name}")


FACTS = (
    _fact("sockets.open", COUNT, Scope.HOST),
    _fact("sockets.free", COUNT, Scope.HOST),
    _fact("queue.age", SECOND, Scope.HOST),
    _fact("queue.wait", SECOND, Scope.HOST),
    _fact("queue.bytes", BYTE, Scope.HOST),
    _fact("memory.pages", PAGE, Scope.HOST),
    _fact("sysctl.net.ipv4.switch", RATIO, Scope.HOST),
    _fact("sysctl.net.ipv4.timeout", SECOND, Scope.HOST),
    _fact("sysctl.net.ipv4.range.low", COUNT, Scope.HOST),
    _fact("sysctl.net.ipv4.range.high", COUNT, Scope.HOST),
    _fact("sysctl.net.ipv4.mem.min", PAGE, Scope.HOST),
    _fact("sysctl.net.ipv4.mem.pressure", PAGE, Scope.HOST),
    _fact("sysctl.net.ipv4.mem.max", PAGE, Scope.HOST),
    _fact("Tcp.Out", COUNT, Scope.HOST, "counter"),
    _fact("Tcp.Again", COUNT, Scope.HOST, "counter"),
    _fact("host.words", None, Scope.HOST, "text"),
    _fact("process.name", None, Scope.PROCESS, "text"),
    _fact("leak.owned", COUNT, Scope.PROCESS),
    _fact("leak.ages", SECOND, Scope.PROCESS, "ages"),
    _fact("listener.port", COUNT, Scope.LISTENER),
)


class TinyVocabulary:
    """The facts above, and no others."""

    def find_fact(self, name: str) -> Fact | None:
        return next((fact for fact in FACTS if fact.name == name), None)

    def fact_names(self, scope: Scope) -> Sequence[str]:
        return [fact.name for fact in FACTS if fact.scope in (scope, Scope.HOST)]


VOCABULARY = TinyVocabulary()
LIMITS: Mapping[str, tuple[float, Dimension]] = {
    "min_sockets": (100.0, COUNT),
    "min_age": (60.0, SECOND),
    "share": (0.8, RATIO),
    "size": (4096.0, BYTE),
}
CONTEXT = Context(Scope.PROCESS, {name: limit[1] for name, limit in LIMITS.items()}, VOCABULARY)
LIMIT_VALUES = {name: limit[0] for name, limit in LIMITS.items()}

RULE = '''\
id     = "sockets-leak"
title  = "Process leaks sockets"
status = "stable"
since  = "0.1"
scope  = "process"
tags   = ["close"]
measure       = "older(leak.ages, limit.min_age)"
measure_limit = { warning = "min_sockets", critical = "worse" }

[limits]
min_sockets = { default = 100, unit = "count", reason = "own: a handful is none" }
min_age     = { default = 2, unit = "minute", reason = "own: slow is no leak" }
worse       = { default = 1000, unit = "count", reason = "own: ten times as many" }

[fires]
warning  = "older(leak.ages, limit.min_age) >= limit.min_sockets"
critical = "older(leak.ages, limit.min_age) >= limit.worse"

[prose]
headline    = "{leak.owned} sockets left open"
summary     = """{process.name} holds {leak.owned} sockets, \\
{older(leak.ages, limit.min_age)} for {limit.min_age}."""
explanation = """
The kernel waits.

It has {{no}} timer."""
impact      = "Descriptors run out."
normal_when = ["a pool that is never full"]

[[fix]]
kind   = "code"
title  = "Close them"
do     = "Call close()."
commands = ["ss -tnp | grep -c {leak.owned:n}"]
risk   = "A descriptor may be in use."
verify = "ss -tn | grep -c {leak.owned:n}"

[[fix]]
kind       = "sysctl"
title      = "Shorten the timeout"
name       = "net.ipv4.timeout"
value      = "sysctl.net.ipv4.timeout / 2"
applies_to = "namespace"
risk       = "Slow peers are cut off."
verify     = "sysctl net.ipv4.timeout"
undo       = "sysctl -w net.ipv4.timeout={sysctl.net.ipv4.timeout:n}"

[[wrong_fix]]
title = "Restart"
why   = "It comes back."

[[reference]]
claim  = "there is no timer"
source = "RFC 9293, section 3.3.2"

[[test]]
name   = "fires at the limits"
given  = { "leak.ages" = { count = 100, each = 120 } }
expect = "warning"

[[test]]
name   = "is critical at ten times as many"
given  = { "leak.ages" = { count = 1000, each = 120 }, "leak.owned" = 1000 }
expect = "critical"

[[test]]
name   = "is silent below"
given  = { "leak.ages" = { count = 99, each = 120 } }
expect = "clear"

[[test]]
name   = "cannot tell"
given  = { "leak.ages" = "missing: owners are hidden: run as root" }
expect = "unknown"
'''
"""A rule of the small vocabulary in which nothing is wrong."""


def rule(text: str = RULE, *, whole: bool = True) -> Rule:
    """The rule, read with the small vocabulary."""
    return parse_rule(text, "rules/close/sockets-leak.toml", "close", vocabulary=VOCABULARY, whole=whole)


def process(facts: Mapping[str, Value], label: str = "nginx (811)", *, hidden: bool = False) -> Subject:
    """A subject of the process scope."""
    pid = int("".join(filter(str.isdigit, label)) or 0)
    identity = {"pid": pid, "name": label.partition(" ")[0]}
    return Subject(Scope.PROCESS, label, identity, facts, hidden)
