"""What an ordinary user is told: everything that can be seen, and never that all is well where it cannot."""

import os

from tcpdoctor.answers.rules import load_rules
from tcpdoctor.diagnosis.evaluate import diagnose
from tcpdoctor.kernel.live import take_samples
from tcpdoctor.lab.closing import close_wait, fin_wait_1_stuck
from tcpdoctor.lab.namespace import write_sysctl

NOBODY = 65534


def diagnose_as_nobody(folder, count):
    """Root's process leaks sockets; a user who may not see whose they are looks at them."""
    write_sysctl("net.ipv4.tcp_syncookies", 0)
    with close_wait(count) as sockets, fin_wait_1_stuck(23) as peers:
        config = folder / "config.toml"
        config.write_text("[rules.close-wait-leak.limits]\nmin_age = 0.5\n", encoding="ascii")
        library = load_rules(config=config)
        diagnose(library.rules, take_samples(0.0))  # imports what lies where only root may read
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            for descriptor in (sock.fileno() for sock in (*sockets, *peers)):
                os.close(descriptor)  # what was inherited would be its own
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            diagnosis = diagnose(library.rules, take_samples(1.0))
            found = [finding.rule for finding in diagnosis.findings]
            why = [f"{item.rule}: {item.reason}" for item in diagnosis.unchecked if item.applies]
            os.write(writer, "\n".join(["|".join(found), *why]).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            found, *why = stream.read().splitlines()
        os.waitpid(child, 0)
    return found.split("|"), why


def test_without_root_a_leak_is_unchecked_and_never_clear(in_namespace, tmp_path):
    found, why = in_namespace(diagnose_as_nobody, tmp_path, 113)
    leak = next(line for line in why if line.startswith("close-wait-leak"))
    assert "run as root" in leak
    assert "CAP_" in leak
    assert "close-wait-leak" not in found


def test_without_root_what_needs_no_owner_is_still_found(in_namespace, tmp_path):
    found, _ = in_namespace(diagnose_as_nobody, tmp_path, 113)
    assert {"syncookies-off", "fin-wait-1-stuck"} <= set(found)


def test_without_root_too_few_hidden_sockets_to_matter_leave_the_rule_clear(in_namespace, tmp_path):
    found, why = in_namespace(diagnose_as_nobody, tmp_path, 97)
    assert not [line for line in why if line.startswith("close-wait-leak")]
    assert "close-wait-leak" not in found
