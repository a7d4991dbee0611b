"""The README's samples are what the program prints, and its commands are those that CI runs."""

import re
from pathlib import Path

from tests.live.traced import needs_events
from tests.readme import (
    CUT,
    README,
    leak,
    leftover,
    misconfigured,
    pasted,
    shown,
    sick,
    traced_ends,
    watched,
    words,
)

CHECKOUT = README.parent


def _agrees(sample: str, output: str) -> None:
    expected, actual = words(sample.replace(CUT, "")), words(output)
    if CUT in sample:
        actual = actual[: len(expected)]
    assert actual == expected, "run `make readme`"


def test_the_sample_of_check_is_what_it_prints(in_namespace, tmp_path):
    config = tmp_path / "config.toml"
    aged = "[rules.{}.limits]\nmin_age = 1\n"
    young = aged.format("close-wait-leak") + aged.format("process-does-not-read")
    config.write_text(young, encoding="utf-8")
    output = in_namespace(sick, 1.5, "--config", str(config))
    _agrees(shown("check", README.read_text(encoding="utf-8")), output)


def test_the_sample_for_nagios_is_what_it_prints(in_namespace, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("[rules.close-wait-leak.limits]\nmin_age = 1\n", encoding="utf-8")
    output = in_namespace(leak, 1.5, "--format", "nagios", "--timeout", "8", "--config", str(config))
    _agrees(shown("nagios", README.read_text(encoding="utf-8")), output)


def test_the_sample_of_explain_is_what_it_prints(in_namespace):
    _agrees(shown("port", README.read_text(encoding="utf-8")), in_namespace(leftover))


def test_the_screen_of_watch_is_what_it_draws():
    assert shown("watch", README.read_text(encoding="utf-8")) == watched()


def test_the_sample_of_a_paste_is_what_is_concluded_from_it():
    _agrees(shown("from", README.read_text(encoding="utf-8")), pasted())


@needs_events
def test_the_sample_of_trace_is_what_it_prints(in_namespace):
    _agrees(shown("trace", README.read_text(encoding="utf-8")), in_namespace(traced_ends))


def test_the_sample_of_fix_is_what_it_prints(in_namespace):
    _agrees(shown("fix", README.read_text(encoding="utf-8")), in_namespace(misconfigured))


def test_the_readme_gives_two_commands_and_they_are_those_of_ci():
    blocks = re.findall(r"```sh\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks[:2] == [
        "sh .ci/setup && .venv/bin/tcpdoctor check",
        "sh .ci/setup && .venv/bin/python -m pytest -q",
    ]
    ci = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")
    assert [command for command in blocks[1].split(" && ") if command not in ci] == []


def test_every_link_in_the_documents_leads_somewhere():
    for document in CHECKOUT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (CHECKOUT / Path(target)).exists(), f"{document.name}: {target}"
