"""Rule texts, replacements and the configuration become the rules in force."""

import pytest

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.library import RuleText, load_library, parse_config
from tcpdoctor.errors import ConfigError, QuestionError, RuleError
from tests.diagnosis.examples import RULE, VOCABULARY

OTHER = RULE.replace('"sockets-leak"', '"queue-grows"', 1)
TEXTS = (
    RuleText("rules/close/sockets-leak.toml", "close", RULE, shipped=True),
    RuleText("rules/listen/queue-grows.toml", "listen", OTHER, shipped=True),
)


def load(*more, config="", **choice):
    parsed = parse_config(config, "/etc/tcpdoctor/config.toml")
    return load_library([*TEXTS, *more], parsed, vocabulary=VOCABULARY, **choice)


def local(text, name="x"):
    return RuleText(f"/etc/tcpdoctor/rules.d/{name}.toml", "local", text)


def names(library):
    return [rule.id for rule in library.rules]


def test_all_rules_are_in_force_in_the_order_of_their_names():
    library = load()
    assert [rule.name for rule in library.rules] == ["close/sockets-leak", "listen/queue-grows"]
    assert library.off == ()
    assert all(rule.shipped for rule in library.rules)


def test_only_and_skip_choose_by_id_or_by_family_and_id():
    assert names(load(only={"queue-grows"})) == ["queue-grows"]
    assert names(load(only=["listen/queue-grows", "sockets-leak"], skip=["close/sockets-leak"])) == [
        "queue-grows"
    ]
    library = load(skip={"queue-grows"})
    assert names(library) == ["sockets-leak"]
    assert [(rule.id, why) for rule, why in library.off] == [("queue-grows", "--skip")]
    assert [why for _, why in load(only={"queue-grows"}).off] == ["--only"]


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"only": ["socket-leak"]}, "there is no rule 'socket-leak'; did you mean sockets-leak?"),
        ({"only": ["close/socket-leak"]}, "did you mean close/sockets-leak?"),
        ({"skip": ["xyzzy"]}, "--skip: there is no rule 'xyzzy'; `tcpdoctor rules list` prints all of them"),
        ({"only": []}, "--only: names no rule; give an id, or leave the option out"),
    ],
)
def test_an_unknown_name_is_a_wrong_question(choice, says):
    with pytest.raises(QuestionError) as caught:
        load(**choice)
    assert says in str(caught.value)


def test_a_rule_is_found_by_either_name_whether_in_force_or_not():
    library = load(skip={"queue-grows"})
    assert library.find("sockets-leak")[0].id == "sockets-leak"
    assert library.find("listen/queue-grows")[1] == "--skip"
    with pytest.raises(QuestionError, match="did you mean queue-grows"):
        library.find("queue-grow")


def test_a_taken_id_is_an_error_that_names_both_files():
    with pytest.raises(RuleError) as caught:
        load(local(RULE))
    assert str(caught.value) == (
        "/etc/tcpdoctor/rules.d/x.toml: id: 'sockets-leak' is taken by rules/close/sockets-leak.toml; "
        'choose another, or add replaces = "sockets-leak"'
    )


def test_a_later_rule_may_replace_an_earlier_one_under_its_id_or_a_new_one():
    replacing = RULE.replace("[limits]", 'replaces = "sockets-leak"\n[limits]', 1)
    library = load(local(replacing))
    assert [rule.source for rule in library.rules if rule.id == "sockets-leak"] == [
        "/etc/tcpdoctor/rules.d/x.toml"
    ]
    renamed = replacing.replace('"sockets-leak"', '"my-leak"', 1)
    assert sorted(names(load(local(renamed)))) == ["my-leak", "queue-grows"]


def test_what_is_replaced_has_to_exist():
    replacing = RULE.replace("[limits]", 'replaces = "queue-grow"\n[limits]', 1)
    with pytest.raises(
        RuleError, match="no rule 'queue-grow' comes before this one; did you mean queue-grows"
    ):
        load(local(replacing))


def test_a_rule_that_is_not_the_programs_own_is_read_whole():
    broken = RULE.replace('"sockets-leak"', '"mine"', 1).replace("{leak.owned}", "{leak.owend}", 1)
    with pytest.raises(RuleError, match=r"did you mean leak\.owned"):
        load(local(broken))


def test_the_configuration_switches_off_and_changes_limits_and_severity():
    library = load(
        config="""
        [rules.queue-grows]
        enabled = false
        [rules."close/sockets-leak"]
        severity = "critical"
        [rules."close/sockets-leak".limits]
        min_age = 5
        """
    )
    assert [(rule.id, why) for rule, why in library.off] == [("queue-grows", "/etc/tcpdoctor/config.toml")]
    (rule,) = library.rules
    assert rule.severity is Severity.CRITICAL
    assert rule.limits["min_age"].value == 300.0  # the limit's unit is the minute
    assert (rule.limits["min_age"].given, rule.limits["min_age"].default) == (5, 2)
    assert rule.limits["min_sockets"].value == 100


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            "[rules.socket-leak]",
            "rules.socket-leak: there is no rule 'socket-leak'; did you mean sockets-leak?",
        ),
        ('[rules."a\\nb"]', "rules.'a\\nb': there is no rule 'a\\nb'"),
        (
            "[rules.sockets-leak.limits]\nmin_socket = 3",
            "limits.min_socket: sockets-leak has no such limit; did you",
        ),
        (
            "[rules.sockets-leak.limits]\nmin_sockets = nan",
            "rules.sockets-leak.limits.min_sockets: nan is out of",
        ),
        ("[rules.sockets-leak.limits]\nmin_sockets = '3'", "limits.min_sockets: '3' is no number; write one"),
        ("[rules.sockets-leak]\nenabled = 1", "rules.sockets-leak.enabled: 1 is neither true nor false"),
        (
            "[rules.sockets-leak]\nseverity = 'bad'",
            "rules.sockets-leak.severity: 'bad' is not possible; there are",
        ),
        ("[rules.sockets-leak]\nenable = true", "enable: there is no such key; did you mean enabled?"),
        (
            "[rules.sockets-leak]\n[rules.'close/sockets-leak']",
            "rules.close/sockets-leak: rules.sockets-leak is the same rule; put both into one table",
        ),
        ("[rule.sockets-leak]", "rule: there is no such key; did you mean rules?"),
        ("[rules]\nsockets-leak = 3", "rules.sockets-leak: is no table"),
        ("rules = 3", "rules: is no table"),
        ("[rules", "not TOML: "),
    ],
)
def test_a_wrong_configuration_names_file_key_and_remedy(config, says):
    with pytest.raises(ConfigError) as caught:
        load(config=config)
    assert str(caught.value).startswith("/etc/tcpdoctor/config.toml: ")
    assert says in str(caught.value)
