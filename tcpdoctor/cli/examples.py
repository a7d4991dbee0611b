"""Whole command lines for each command's help, each with what it answers; a test runs every one of them."""

from collections.abc import Mapping
from typing import NamedTuple


class Example(NamedTuple):
    """One command line."""

    command: str
    answers: str


FIRST = (
    Example("tcpdoctor check", "what is wrong with TCP here, and what to do"),
    Example("tcpdoctor explain 8080", "can a server bind this port? who holds it?"),
    Example("tcpdoctor explain db:5432", "can a client connect there?"),
    Example("tcpdoctor explain EADDRINUSE", "what does this error mean, here and now?"),
    Example("tcpdoctor states", "how many sockets are in which state?"),
)
"""What `tcpdoctor` alone says."""

EXAMPLES: Mapping[str, tuple[Example, Example]] = {
    "check": (
        Example("tcpdoctor check", "two looks a second apart, the short form"),
        Example("tcpdoctor check close-wait-leak", "this rule only, all that it has to say"),
    ),
    "fix": (
        Example("tcpdoctor fix", "settings and programs, each with its risk; nothing is changed"),
        Example("tcpdoctor fix --as sysctl.d syncookies-off", "the lines of one rule, for a file"),
    ),
    "explain": (
        Example("tcpdoctor explain 8080", "who holds the port, until when, what to do"),
        Example("tcpdoctor explain Address already in use", "what an error means, what to look at"),
    ),
    "states": (
        Example("tcpdoctor states", "a line for each state that has sockets"),
        Example("tcpdoctor states --by process", "the same, for each process"),
    ),
    "sockets": (
        Example("tcpdoctor sockets --state close-wait", "one row each, the oldest first"),
        Example("tcpdoctor sockets --port 443 --json", "all that is known of each, for machines"),
    ),
    "watch": (
        Example("tcpdoctor watch", "a screen of it, every 2 s; ? shows the keys"),
        Example("tcpdoctor watch --plain --interval 1 --count 3", "a line a look, for logs and pipes"),
    ),
    "facts": (
        Example("tcpdoctor facts --window 0 close_wait", "facts whose names begin so, with values"),
        Example("tcpdoctor facts --scope process --json", "what a rule may ask of each process"),
    ),
    "snapshot": (
        Example("tcpdoctor snapshot -o case.json.gz", "two looks a second apart, addresses replaced"),
        Example("tcpdoctor snapshot --window 0 --raw", "one look as it is, on standard output"),
    ),
    "trace": (
        Example("tcpdoctor trace --for 1s", "every connection that ends here within a second"),
        Example("tcpdoctor trace --port 443 --for 1s", "of one port: who closes first, who resets"),
    ),
    "diff": (
        Example("tcpdoctor diff before.json.gz after.json.gz", "what appeared, grew, went; rates; settings"),
        Example("tcpdoctor diff a.txt b.txt --window 5m --json", "two pastes taken five minutes apart"),
    ),
    "sysctl": (
        Example("tcpdoctor sysctl show --changed", "settings that are not the kernel's defaults"),
        Example("tcpdoctor sysctl lint", "what the files of sysctl.d do, and what is wrong in them"),
    ),
    "sysctl show": (
        Example("tcpdoctor sysctl show tcp_fin_timeout", "its value, default, unit, and who set it"),
        Example("tcpdoctor sysctl show '*keepalive*' --json", "all that the pattern stands for"),
    ),
    "sysctl lint": (
        Example("tcpdoctor sysctl lint", "the files that this system reads at boot"),
        Example("tcpdoctor sysctl lint /etc/sysctl.conf", "one file, against this kernel"),
    ),
    "rules": (
        Example("tcpdoctor rules list", "every rule, its scope and severities"),
        Example("tcpdoctor rules show close-wait-leak", "one rule as a page"),
    ),
    "rules list": (
        Example("tcpdoctor rules list", "every rule, its scope and severities"),
        Example("tcpdoctor rules list --json", "the same for machines"),
    ),
    "rules show": (
        Example("tcpdoctor rules show close-wait-leak", "its condition, limits, prose and tests"),
        Example("tcpdoctor rules show close/close-wait-leak --json", "the same for machines"),
    ),
    "rules lint": (
        Example("tcpdoctor rules lint", "every rule that is loaded"),
        Example("tcpdoctor rules lint --format sarif", "complaints for a code host"),
    ),
    "rules test": (
        Example("tcpdoctor rules test", "the tests that stand in the rule files"),
        Example("tcpdoctor rules test --json", "the same for machines"),
    ),
    "rules new": (
        Example("tcpdoctor rules new close/my-symptom", "writes a rule file with every part explained"),
        Example("tcpdoctor rules new bind/my-port", "the same in another family"),
    ),
    "fleet": (
        Example("tcpdoctor fleet reports/*.json", "one report of many: worst hosts first"),
        Example("tcpdoctor fleet reports/*.json --format markdown", "the same for a ticket"),
    ),
    "schema": (
        Example("tcpdoctor schema", "the names of all JSON forms"),
        Example("tcpdoctor schema check", "the JSON Schema of check --json"),
    ),
    "lab": (
        Example("tcpdoctor lab list", "the diseases that can be made here"),
        Example("tcpdoctor lab run close-wait-leak", "one of them, found and cured before your eyes"),
    ),
    "lab list": (
        Example("tcpdoctor lab list", "every scenario, and what it proves"),
        Example("tcpdoctor lab list --json", "the same for machines"),
    ),
    "lab run": (
        Example("tcpdoctor lab run close-wait-leak", "the disease, its finding, the fix"),
        Example("tcpdoctor lab run close-wait-leak --hold", "stops while it is broken, to look around"),
    ),
    "lab prove": (
        Example("tcpdoctor lab prove close-wait-leak", "the disease is found, and its fix ends it"),
        Example("tcpdoctor lab prove close-wait-leak --json", "the same for machines"),
    ),
    "completion": (
        Example("tcpdoctor completion bash", "prints the script; its first lines say where it goes"),
        Example("tcpdoctor completion zsh", "the same for zsh"),
    ),
}
"""By command."""
