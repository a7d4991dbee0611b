"""`tcpdoctor rules` and `explain --rule`, and where rules and the configuration are read from."""

import os
import stat
import zipfile
from pathlib import Path

import pytest

from tcpdoctor.answers import rules as rule_files
from tcpdoctor.cli.app import run
from tcpdoctor.diagnosis.body import unfilled
from tcpdoctor.diagnosis.lint import lint_rule
from tcpdoctor.diagnosis.rule import parse_rule, read_body
from tcpdoctor.errors import ConfigError, RuleError
from tests.schemas import described

LEAK = "close-wait-leak"


@pytest.fixture(autouse=True)
def no_administrator(monkeypatch, tmp_path):
    """Whatever is in /etc/tcpdoctor on this machine is not part of a test."""
    monkeypatch.setattr(rule_files, "ADMIN_RULES", tmp_path / "etc" / "rules.d")
    monkeypatch.setattr(rule_files, "ADMIN_CONFIG", tmp_path / "etc" / "config.toml")


@pytest.fixture
def say(capfd):
    def run_rules(*arguments):
        code = run(["rules", *map(str, arguments)])
        return code, capfd.readouterr().out

    return run_rules


@pytest.fixture
def refused(capfd):
    """The one line on stderr of a command that exits 3."""

    def run_refused(*arguments):
        assert run([*map(str, arguments)]) == 3
        answer = capfd.readouterr()
        assert answer.out == ""
        assert answer.err.count("\n") == 1
        return answer.err

    return run_refused


def shipped(name):
    return next(text for text in rule_files.shipped_texts() if text.source.endswith(f"{name}.toml")).text


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def my_rule(tmp_path, name="my-leak", **replaced):
    text = shipped(LEAK).replace(f'"{LEAK}"', f'"{name}"', 1)
    for old, new in replaced.items():
        text = text.replace(old, new, 1)
    return write(tmp_path / "mine" / "close", f"{name}.toml", text)


# list


def test_the_list_names_every_rule_within_80_columns(say):
    code, text = say("list")
    assert code == 0
    names = [Path(source.source).stem for source in rule_files.shipped_texts()]
    assert len(names) >= 20
    assert all(f"  {name} " in text for name in names)
    assert f"{len(names)} rules, {len(names)} on" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_list_says_what_is_off_and_what_is_not_the_programs_own(say, tmp_path):
    config = write(tmp_path, "c.toml", f"[rules.{LEAK}]\nenabled = false\n")
    my_rule(tmp_path)
    code, text = say("list", "--rules", tmp_path / "mine", "--config", config)
    assert code == 0
    assert "switched off by" in text
    assert "my-leak.toml" in text.replace("\n", "").replace(" ", "")
    data = described(say("list", "--rules", tmp_path / "mine", "--config", config, "--format", "json")[1])
    assert data["schema"] == "tcpdoctor.rules/1"
    entries = {entry["id"]: entry for entry in data["rules"]}
    assert entries[LEAK]["switched_off_by"] == str(config)
    assert (entries[LEAK]["shipped"], entries["my-leak"]["shipped"]) == (True, False)
    assert entries["my-leak"]["enabled"]


# show


@pytest.mark.parametrize("name", [LEAK, f"close/{LEAK}"])
def test_a_page_has_every_part_of_the_rule(say, name):
    code, text = say("show", name)
    assert code == 0
    rule = parse_rule(shipped(LEAK), "x", "close")
    body = read_body(rule)
    words = " ".join(text.split())
    for part in (
        rule.title,
        " ".join(rule.fires[0].text.split()),
        f"how far it has gone, against min_sockets (warning) {rule.measure}",
        *(unfilled(command) for fix in body.fixes for command in fix.commands),
        *rule.limits,
        "close_wait.owned_ages",
        *(" ".join(reference.source.split()) for reference in body.references),
        *(test.name for test in body.tests),
    ):
        assert part in words


def test_every_page_fits_80_columns_and_every_json_is_whole(say):
    for source in rule_files.shipped_texts():
        name = Path(source.source).stem
        text = say("show", name)[1]
        # a command is never cut: it may be longer, continued lines apart
        prose = [line for line in text.splitlines() if len(line) > 80 and not line.startswith("    ")]
        assert prose == []
        data = described(say("show", name, "--format", "json")[1])
        assert (data["schema"], data["id"], data["here"]) == ("tcpdoctor.rule/1", name, None)
        assert data["tests"]
        assert data["facts"]


def test_a_page_shows_limits_and_severity_that_the_configuration_changed(say, tmp_path):
    config = write(tmp_path, "c.toml", f'[rules.{LEAK}]\nseverity = "info"\nlimits = {{ min_sockets = 7 }}')
    text = say("show", LEAK, "--config", config)[1]
    assert "min_sockets = 7 count (configuration; default 100)" in text
    assert "every finding is reported as info" in text
    data = described(say("show", LEAK, "--config", config, "--format", "json")[1])
    assert (data["limits"][0]["value"], data["limits"][0]["default"]) == (7, 100)
    assert data["severities"] == ["info"]


def test_an_unknown_rule_gets_the_nearest(refused):
    assert f"did you mean {LEAK}?" in refused("rules", "show", "close-wait-leek")
    assert f"did you mean {LEAK}?" in refused("explain", "--rule", "close-wait-leek")


# lint and test


def test_the_rules_of_this_program_have_no_complaint_and_pass_their_tests(say):
    code, text = say("lint")
    assert (code, text.endswith("no complaint.\n")) == (0, True), text
    code, text = say("test")
    assert (code, text.endswith("every answer as expected.\n")) == (0, True), text


def test_lint_takes_a_file_or_a_folder_and_exits_1_with_complaints(say, tmp_path):
    path = my_rule(tmp_path, **{"Process does": "Lower what"})
    for target in (path, tmp_path / "mine"):
        code, text = say("lint", target)
        assert code == 1
        assert "title-is-an-instruction: 'Lower' begins a cure" in text
        assert "1 rule, 1 complaint." in text
    code, text = say("lint", path, "--format", "json")
    (complaint,) = described(text)["complaints"]
    assert (complaint["source"], complaint["name"]) == (str(path), "title-is-an-instruction")


def test_lint_of_one_file_knows_the_shipped_rules_that_it_explains(say, tmp_path):
    text = shipped("proxy-waits-for-one-side")
    alone = write(tmp_path / "close", "proxy-waits-for-one-side.toml", text)
    assert say("lint", alone)[0] == 0
    wrong = write(
        tmp_path / "close",
        "proxy-waits-for-one-side.toml",
        text.replace('"close-wait-leak"', '"close-wait-leek"'),
    )
    code, said = say("lint", wrong)
    assert (code, "explains-no-rule" in said) == (1, True)


def test_lint_goes_on_after_a_file_that_is_no_rule(say, tmp_path):
    my_rule(tmp_path, **{"limit.min_age) >=": "limit.min_ages) >="})
    my_rule(tmp_path, "other-leak")
    code, text = say("lint", tmp_path / "mine")
    assert code == 1
    assert "unreadable: fires.warning: `limit.min_ages`: there is no such limit" in text
    assert "2 rules, 1 complaint." in text


def test_lint_sees_rules_that_are_the_same(say, tmp_path):
    my_rule(tmp_path)
    my_rule(tmp_path, "other-leak")
    assert "same-conditions: it fires exactly when my-leak does" in say("lint", tmp_path / "mine")[1]


def test_test_says_which_test_failed(say, tmp_path):
    path = my_rule(tmp_path, **{"count = 99,": "count = 100,"})
    code, text = say("test", path)
    assert code == 1
    assert "expects clear and the answer is warning" in " ".join(text.split())
    assert described(say("test", path, "--format", "json")[1])["failures"]


def test_test_refuses_what_is_no_rule(refused, tmp_path):
    path = write(tmp_path, "x.toml", "id = 3")
    assert f"{path}: scope: is missing; add it" in refused("rules", "test", path)


@pytest.mark.parametrize("command", ["lint", "test"])
def test_a_path_that_is_not_there_is_told(refused, tmp_path, command):
    assert "no such file" in refused("rules", command, tmp_path / "nothing")
    assert "no .toml file below it" in refused("rules", command, tmp_path)


# new


def test_a_new_rule_passes_lint_once_its_blanks_are_filled(say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = say("new", "close/my-symptom")
    assert code == 0
    assert text.startswith("close/my-symptom.toml\n")
    path = tmp_path / "close" / "my-symptom.toml"
    code, text = say("lint", path)
    blanks = path.read_text().count('""') - 1  # the comment at its top shows one
    assert (code, text.count("unreadable: ")) == (1, blanks)  # all of them at once
    assert "unreadable: fix[1].risk: is empty; write a text" in text
    path.write_text(path.read_text().replace('""', '"Words that fill a blank"'))
    assert say("lint", path) == (0, "1 rule, no complaint.\n")
    assert say("test", path)[0] == 0


def test_a_new_rule_goes_into_rules_or_where_one_says(say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").mkdir()
    say("new", "close/my-symptom")
    assert (tmp_path / "rules" / "close" / "my-symptom.toml").is_file()
    (tmp_path / "there").mkdir()
    say("new", "listen/my-symptom", "--into", tmp_path / "there")
    assert (tmp_path / "there" / "listen" / "my-symptom.toml").is_file()


@pytest.mark.parametrize("name", ["my-symptom", "close/", "/x", "../x/y", "close/My", "a/b/c", "close/x\n"])
def test_a_new_rule_needs_a_family_and_an_id(refused, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert "is no FAMILY/ID; write one such as close/my-symptom" in refused("rules", "new", name)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "close", "my-symptom.toml", "mine")
    assert "exists; choose another id, or edit it" in refused("rules", "new", "close/my-symptom")
    assert path.read_text() == "mine"
    assert f"the rule {LEAK} exists" in refused("rules", "new", f"listen/{LEAK}")
    nowhere = tmp_path / "nothing"
    assert "no such folder; make it first" in refused("rules", "new", "close/other", "--into", nowhere)


def test_a_folder_that_cannot_be_made_is_told(refused, tmp_path):
    (tmp_path / "close").write_text("no folder")
    assert "file exists; choose another" in refused("rules", "new", "close/mine", "--into", tmp_path)
    assert "/proc/close: no such file" in refused("rules", "new", "close/mine", "--into", "/proc")


# where rules come from


def test_rules_of_the_administrator_then_of_each_folder(tmp_path):
    write(rule_files.ADMIN_RULES, "my-own.toml", shipped(LEAK).replace(f'"{LEAK}"', '"my-own"', 1))
    my_rule(tmp_path)
    texts = list(rule_files.added_texts([tmp_path / "mine"]))
    assert [(Path(text.source).name, text.family) for text in texts] == [
        ("my-own.toml", "local"),
        ("my-leak.toml", "close"),
    ]
    rules = {rule.id: rule for rule in rule_files.load_rules([tmp_path / "mine"]).rules}
    assert rules["my-own"].name == "local/my-own"


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(RuleError, match="no such file"):
        rule_files.load_rules([tmp_path / "nothing"])


def test_the_configuration_of_the_administrator_counts_unless_another_is_given(tmp_path):
    write(rule_files.ADMIN_CONFIG.parent, "config.toml", f"[rules.{LEAK}]\nenabled = false\n")
    assert [rule.id for rule, _ in rule_files.load_rules().off] == [LEAK]
    assert rule_files.load_rules(config=write(tmp_path, "empty.toml", "")).off == ()
    with pytest.raises(ConfigError, match="no such file"):
        rule_files.load_rules(config=tmp_path / "nothing.toml")


def test_only_and_skip_reach_the_library():
    library = rule_files.load_rules(only=frozenset({LEAK}), skip=None)
    assert [rule.id for rule in library.rules] == [LEAK]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root refuses what others can write")
def test_root_refuses_rules_and_configurations_that_others_can_write(tmp_path):
    path = my_rule(tmp_path)
    path.chmod(0o666)
    with pytest.raises(RuleError, match=r"my-leak\.toml: .*(0?666|-rw-rw-rw-)"):
        rule_files.load_rules([tmp_path / "mine"])
    config = write(tmp_path, "c.toml", "")
    config.chmod(stat.S_IRUSR | stat.S_IWOTH)
    with pytest.raises(ConfigError, match=r"c\.toml: "):
        rule_files.load_rules(config=config)


def test_lint_may_read_what_others_can_write(say, tmp_path):
    path = my_rule(tmp_path)
    path.chmod(0o666)
    assert say("lint", path)[0] == 0


def test_rules_inside_a_zip_file_are_found(tmp_path, monkeypatch):
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("packed_rules/__init__.py", "")
        packed.writestr(f"packed_rules/rules/close/{LEAK}.toml", shipped(LEAK))
    monkeypatch.syspath_prepend(str(archive))
    (text,) = rule_files.packed_texts("packed_rules")
    assert (text.source, text.family, text.shipped) == (f"rules/close/{LEAK}.toml", "close", True)
    assert text.text == shipped(LEAK)


def test_an_installation_without_rules_says_so(tmp_path, monkeypatch):
    write(tmp_path / "bare_package", "__init__.py", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RuleError, match="the rules of this program are missing: install tcpdoctor again"):
        list(rule_files.packed_texts("bare_package"))


def test_the_package_has_its_rules_inside_or_in_the_checkout_around_it(tmp_path):
    package = tmp_path / "checkout" / "tcpdoctor"
    write(package, "__init__.py", "")
    assert rule_files.folder_of_rules(str(package)) is None
    (tmp_path / "checkout" / "rules").mkdir()
    assert rule_files.folder_of_rules(str(package)) is None  # any folder may be called rules
    write(tmp_path / "checkout", "pyproject.toml", "")
    assert rule_files.folder_of_rules(str(package)) == str(tmp_path / "checkout" / "rules")
    (package / "rules").mkdir()
    assert rule_files.folder_of_rules(str(package)) == str(package / "rules")


# explain --rule


def test_explain_says_what_a_rule_finds_here(capfd):
    assert run(["explain", "--rule", "syncookies-off", "--format", "json"]) == 0
    data = described(capfd.readouterr().out)
    assert data["id"] == "syncookies-off"
    assert set(data["here"]) == {"findings", "unchecked"}
    assert run(["explain", "--rule", "listen/syncookies-off"]) == 0
    assert "--long: every way out" in capfd.readouterr().out
    assert run(["explain", "--rule", "listen/syncookies-off", "--long"]) == 0
    assert "Here and now" in capfd.readouterr().out


def test_every_rule_of_this_program_is_clean_one_by_one():
    for text in rule_files.shipped_texts():
        rule = parse_rule(text.text, text.source, text.family)
        assert list(lint_rule(rule, read_body(rule), Path(text.source).stem)) == []
