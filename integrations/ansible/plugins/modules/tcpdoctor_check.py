#!/usr/bin/python

# SPDX-License-Identifier: MIT

"""Run tcpdoctor check on a host and return what it found."""

DOCUMENTATION = r"""
---
module: tcpdoctor_check
short_description: Say what is wrong with TCP on a host
version_added: 0.1.0
description:
  - Runs C(tcpdoctor check) on the host and returns its findings, with evidence, fixes and their risks.
  - Changes nothing, neither on the host nor in the kernel, and sends no packet.
  - The task fails where a finding reaches O(fail_on), and where the host could not be looked at; what was
    found is returned in either case.
options:
  fail_on:
    description:
      - The least severity of a finding that makes the task fail.
      - With V(never) no finding does. A host that could not be looked at fails the task all the same.
    type: str
    choices: [warning, critical, never]
    default: warning
  strict:
    description: Fail where a rule that applies to the host could not be answered, too.
    type: bool
    default: false
  only:
    description: Check these rules only.
    type: list
    elements: str
    default: []
  skip:
    description: Leave these rules out.
    type: list
    elements: str
    default: []
  window:
    description: Seconds between the two samples. With V(0) there is one, and rules about rates are unchecked.
    type: float
    default: 1.0
  rules:
    description: Folders on the host with rules of your own.
    type: list
    elements: path
    default: []
  config:
    description: A configuration file on the host, instead of C(/etc/tcpdoctor/config.toml).
    type: path
  executable:
    description:
      - The program on the host, by its name in PATH or by its path.
      - A path that ends in C(.pyz) is a zipapp, and is run with O(python).
    type: str
    default: tcpdoctor
  python:
    description:
      - The Python on the host that runs a zipapp; 3.10 or later.
      - Where it is not given, the newest of C(python3.14) to C(python3.10) and C(python3) that is there.
    type: path
  timeout:
    description:
      - Seconds after O(window) in which a look has to end; after that the task fails.
      - The program ends by itself then, and is killed five seconds later where it does not.
    type: int
    default: 60
attributes:
  check_mode:
    description: Can run in check mode and return the same, without changing the target.
    support: full
  diff_mode:
    description: Would show the difference, and there never is one.
    support: none
  platform:
    description: Target systems.
    support: full
    platforms: linux
requirements:
  - tcpdoctor and Python 3.10 or later on the host.
  - The role P(tcpdoctor.tcpdoctor.install#role) puts a zipapp of it there.
notes:
  - Without root the processes of other users cannot be seen, and rules that depend on them are unchecked.
    Use C(become).
author:
  - The tcpdoctor authors (@tcpdoctor)
"""

EXAMPLES = r"""
- name: Stop a rollout on a host whose TCP is sick
  tcpdoctor.tcpdoctor.tcpdoctor_check:
    fail_on: critical
  become: true

- name: Look, and go on whatever is found
  tcpdoctor.tcpdoctor.tcpdoctor_check:
    fail_on: never
    window: 5
  become: true
  register: tcp

- name: Show the titles of what was found
  ansible.builtin.debug:
    msg: "{{ tcp.findings | map(attribute='title') }}"

- name: Check for leaks only, with a zipapp that is already there
  tcpdoctor.tcpdoctor.tcpdoctor_check:
    executable: /usr/local/lib/tcpdoctor/tcpdoctor.pyz
    only: [close-wait-leak, fin-wait-2-held-open]
"""

RETURN = r"""
exit_code:
  description:
    - What C(tcpdoctor check) exited with, as monitoring plugins do. V(0) nothing at or above O(fail_on),
      V(1) warning, V(2) critical, V(3) could not look.
    - It is not called C(rc), because Ansible fails every task whose C(rc) is not 0.
  type: int
  returned: always
  sample: 1
status:
  description: The worst severity above info, V(ok), or V(unknown) where the host could not be looked at.
  type: str
  returned: always
  sample: warning
findings:
  description:
    - What was found, the worst first, each with C(rule), C(severity), C(subject), C(title), C(summary),
      C(evidence), C(fixes) and more, as man tcpdoctor tells.
  type: list
  elements: dict
  returned: always
unchecked:
  description: The rules that could not be answered, each with its reason.
  type: list
  elements: dict
  returned: always
  sample: [{rule: softnet-drops, reason: needs two samples}]
command:
  description: The words that start tcpdoctor on that host, for other commands of it.
  type: list
  elements: str
  returned: when the host could be looked at
  sample: [/usr/local/bin/tcpdoctor]
summary:
  description: How many findings of each severity there are, and how many rules were checked.
  type: dict
  returned: when the host could be looked at
report:
  description: The whole object, schema C(tcpdoctor.check/1). C(tcpdoctor fleet) merges those of many hosts.
  type: dict
  returned: when the host could be looked at
"""

import json
import math
import os
import re
import signal

from ansible.module_utils.basic import AnsibleModule

PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3")
ASK_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
LOCAL = ["/usr/local/bin"]  # sudo's secure_path lacks it on some distributions
GRACE = 5  # seconds in which the program may end by itself after its time is over
PYTHON_SECONDS = 20


def main():
    """Run the check once and leave."""
    module = AnsibleModule(
        argument_spec={
            "fail_on": {"type": "str", "choices": ["warning", "critical", "never"], "default": "warning"},
            "strict": {"type": "bool", "default": False},
            "only": {"type": "list", "elements": "str", "default": []},
            "skip": {"type": "list", "elements": "str", "default": []},
            "window": {"type": "float", "default": 1.0},
            "rules": {"type": "list", "elements": "path", "default": []},
            "config": {"type": "path"},
            "executable": {"type": "str", "default": "tcpdoctor"},
            "python": {"type": "path"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if module.params["timeout"] < 1:
        fail(module, "timeout is no number of seconds; give 1 or more")
    if not 0 <= module.params["window"] <= 3600:
        fail(module, "window is no number of seconds from 0 to 3600")
    start = program(module)
    seconds = module.params["window"] + module.params["timeout"]
    code, out, err = run(module, start + arguments(module.params, seconds), seconds + GRACE)
    report = read_report(out)
    if report is None:
        fail(module, f"tcpdoctor could not look: {why(code, err, seconds)}")
    answer = {
        "changed": False,
        "exit_code": code,
        "status": report["status"],
        "findings": report["findings"],
        "unchecked": report["unchecked"],
        "command": start,
        "summary": report.get("summary"),
        "report": report,
    }
    if code == 0:
        module.exit_json(**answer)
    module.fail_json(msg=verdict(report, code), **answer)


def arguments(params, seconds):
    """Return the options of tcpdoctor check for the options of this module."""
    words = ["check", "--format", "json", "--fail-on", params["fail_on"], "--window", str(params["window"])]
    words += ["--timeout", str(seconds)]
    for option in ("only", "skip"):
        if params[option]:
            words += ["--" + option, ",".join(params[option])]
    for folder in params["rules"]:
        words += ["--rules", folder]
    if params["config"]:
        words += ["--config", params["config"]]
    return words + (["--strict"] if params["strict"] else [])


def program(module):
    """Return the words that start tcpdoctor; leave where it, or a Python for it, is not there."""
    name = os.path.expanduser(module.params["executable"])
    path = name if os.sep in name else module.get_bin_path(name, opt_dirs=LOCAL)
    if path is None or not os.path.isfile(path):
        find_python(module)  # where there is none, that is what has to be said
        fail(module, f"there is no {name} on this host; the role tcpdoctor.tcpdoctor.install puts it there")
    return [find_python(module), path] if path.endswith(".pyz") else [path]


def find_python(module):
    """Return a Python that is new enough; leave with those that were found where none is."""
    wanted = module.params["python"]
    found = []
    for name in [wanted] if wanted else PYTHONS:
        path = wanted or module.get_bin_path(name, opt_dirs=LOCAL)
        if path is None:
            continue
        code, out, _err = run(module, [path, "-c", ASK_VERSION], PYTHON_SECONDS)
        version = re.match(r"(\d+)\.(\d+)$", out.strip()) if code == 0 else None
        if version and (int(version[1]), int(version[2])) >= (3, 10):
            return path
        found.append(f"{path} is {version[0] if version else 'not usable'}")
    there = ", ".join(found) or "no python3 is in PATH"
    return fail(module, f"tcpdoctor needs Python 3.10 or later; {there}; install python3.12, say")


def run(module, command, seconds):
    """Return exit code, standard output and standard error; a program that takes longer is killed.

    The limit needs no other program on the host: not every one has timeout(1).
    """
    running = []

    def end(_signal, _frame):
        for process in running:
            process.kill()

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(math.ceil(seconds))
    try:
        return module.run_command(
            command,
            encoding="utf-8",
            errors="replace",
            handle_exceptions=False,
            before_communicate_callback=running.append,
        )
    except OSError as problem:
        return 126, "", f"{command[0]}: {problem.strerror}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def why(code, err, seconds):
    """Return in one line why there is no report."""
    lines = [line for line in err.strip().splitlines() if line.strip()]
    if code == -signal.SIGKILL:
        return f"it did not end within {seconds:g} s and was killed"
    if code < 0:
        return f"signal {-code} ended it"
    return lines[-1] if lines else f"it ended with exit code {code} and without a report"


def read_report(out):
    """Return the report, None where it is none."""
    try:
        report = json.loads(out)
    except ValueError:
        return None
    if not isinstance(report, dict) or report.get("schema") != "tcpdoctor.check/1":
        return None
    whole = isinstance(report.get("status"), str) and all(
        isinstance(report.get(key), list) for key in ("findings", "unchecked")
    )
    return report if whole else None


def verdict(report, code):
    """Return in one line what is wrong, or why it is not known."""
    if report["status"] == "unknown" or code == 3:
        unanswered = {one["rule"] for one in report["unchecked"] if isinstance(one, dict) and "rule" in one}
        return f"too little could be checked: {len(unanswered)} rules were not answered"
    worst = report["findings"][0] if report["findings"] else {"title": report["status"]}
    more = len(report["findings"]) - 1
    return f"{report['status']}: {worst['title']}" + (f", and {more} more" if more > 0 else "")


def fail(module, message):
    """Leave: the host could not be looked at."""
    module.fail_json(msg=message, exit_code=3, status="unknown", findings=[], unchecked=[])


if __name__ == "__main__":
    main()
