"""What of --since-last and --only-changes cannot be meant."""

import pytest

from .command import complaint, tcpdoctor


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--only-changes",), "needs --since-last FILE"),
        (("--since-last", "{file}", "--window", "5"), "goes without --window"),
        (
            ("--since-last", "{file}", "--only-changes", "--format", "junit"),
            "--format text, json, jsonl and journal",
        ),
        (
            ("--since-last", "{file}", "--only-changes", "--format", "html"),
            "--format text, json, jsonl and journal",
        ),
        (("--since-last=",), "empty value"),
        (("--since-last", "{file}", "--netns", "all"), "once for each"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path, options, said):
    words = [word.replace("{file}", str(tmp_path / "last")) for word in options]
    if "nagios" in options:
        done = tcpdoctor("check", *words)
        assert done.returncode == 3
        assert said in done.stdout + done.stderr
    else:
        assert said in complaint(tcpdoctor("check", *words))
    assert not (tmp_path / "last").exists()
