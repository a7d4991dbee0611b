"""A rule file becomes a rule, or a complaint with file, key and remedy."""

import pickle

import pytest

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.diagnosis.rule import read_body
from tcpdoctor.diagnosis.table import empty_texts, suggest
from tcpdoctor.errors import RuleError
from tcpdoctor.facts.subject import Scope
from tests.diagnosis.examples import RULE, rule

SOURCE = "rules/close/sockets-leak.toml: "


def complaint(old: str, new: str) -> str:
    assert old in RULE
    with pytest.raises(RuleError) as caught:
        rule(RULE.replace(old, new, 1))
    message = str(caught.value)
    assert message.startswith(SOURCE)
    return message.removeprefix(SOURCE)


def test_a_rule_is_what_its_file_says():
    read = rule()
    assert (read.id, read.family, read.name) == ("sockets-leak", "close", "close/sockets-leak")
    assert read.scope is Scope.PROCESS
    assert [trigger.severity for trigger in read.fires] == [Severity.CRITICAL, Severity.WARNING]
    assert read.limit_values == {"min_sockets": 100, "min_age": 120.0, "worse": 1000}
    assert (read.initial_only, read.replaces, read.tags) == (False, None, ("close",))


def test_a_rule_of_the_program_is_read_without_its_prose_and_says_the_same():
    assert rule(whole=False) == rule()
    assert read_body(rule(whole=False)) == read_body(rule())


def test_a_head_that_lacks_what_stands_below_the_prose_is_read_whole():
    head, prose = RULE.split("[prose]")
    limits = head[head.index("[limits]") : head.index("[fires]")]
    moved = head.replace(limits, "") + "[prose]" + prose + limits
    assert rule(moved, whole=False).limit_values == rule().limit_values


def test_a_mistake_in_the_prose_of_a_rule_of_the_program_is_told_when_it_is_read():
    broken = rule(RULE.replace("{leak.owned}", "{leak.owend}", 1), whole=False)
    with pytest.raises(RuleError, match=r"did you mean leak\.owned"):
        read_body(broken)


def test_a_rule_can_be_for_the_initial_namespace_only_and_replace_another():
    read = rule(RULE.replace("[limits]", 'namespace = "initial"\nreplaces = "other"\n[limits]', 1))
    assert read.initial_only
    assert read.replaces == "other"
    assert not rule(RULE.replace("[limits]", 'namespace = "any"\n[limits]', 1)).initial_only


def test_a_rule_can_need_something_that_is_not_everywhere():
    assert (
        rule(RULE.replace("[limits]", 'needs = "connection-tracking"\n[limits]', 1)).needs
        == "connection-tracking"
    )
    assert rule().needs is None
    with pytest.raises(RuleError, match=r"needs"):
        rule(RULE.replace("[limits]", 'needs = "luck"\n[limits]', 1))


def test_tags_and_limits_are_optional():
    head, rest = RULE.split("[limits]")
    tests = rest.index("[fires]")
    text = head.replace('tags   = ["close"]\n', "") + rest[tests:]
    for old, new in (
        ("limit.min_age", "60 * second"),
        ("limit.min_sockets", "100"),
        ("limit.worse", "1000"),
    ):
        text = text.replace(old, new)
    text = text.replace('measure_limit = { warning = "min_sockets", critical = "worse" }\n', "")
    read = rule(text)
    assert read.tags == ()
    assert read.limits == {}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('id     = "sockets-leak"\n', "", "id: is missing; add it"),
        ('"sockets-leak"', '"Sockets"', "id: 'Sockets' is no id; write lower-case words joined by hyphens"),
        ('"sockets-leak"', f'"{"a" * 65}"', "is no id"),
        ('"sockets-leak"', "3", 'id: is no text; write it as "..."'),
        ("title  =", "titel  =", "titel: there is no such key; did you mean title?"),
        ('"Process leaks sockets"', '"  "', "title: is empty; write a text"),
        ('"Process leaks sockets"', '"a\\nb"', "title: has more than one line; shorten it"),
        ('"Process leaks sockets"', '"a\\u001bb"', "title: holds a character that cannot be printed"),
        ('"Process leaks sockets"', '"a\\u202eb"', "title: holds a character that cannot be printed"),
        ('"stable"', '"stabel"', "status: 'stabel' is not possible; did you mean stable?"),
        ('"process"', '"proces"', "scope: 'proces' is not possible; did you mean process?"),
        ('"process"', "7", "scope: 7 is not possible; there are host, listener, process"),
        ('["close"]', '"close"', 'tags: is no list of printable texts; write it as ["..."]'),
        ('["close"]', "[1]", "tags: is no list of printable texts"),
        (
            "[limits]",
            'namespace = "child"\n[limits]',
            "namespace: 'child' is not possible; there are any, initial",
        ),
        ("[limits]", 'replaces = "X"\n[limits]', "replaces: 'X' is no id"),
        ("[limits]", "x = 1\n[limits]", "x: there is no such key"),
        (
            "min_sockets = { default = 100",
            "MinSockets = { default = 100",
            "limits.MinSockets: is no name for a limit",
        ),
        ("min_sockets = { default = 100", "in = { default = 100", "limits.in: is no name for a limit"),
        (
            "{ default = 100, unit",
            "{ defualt = 100, unit",
            "limits.min_sockets.defualt: there is no such key",
        ),
        ("default = 100,", "default = nan,", "limits.min_sockets.default: nan is out of bounds"),
        ("default = 100,", "default = inf,", "limits.min_sockets.default: inf is out of bounds"),
        ("default = 100,", "default = -1,", "limits.min_sockets.default: -1 is out of bounds"),
        ("default = 100,", "default = true,", "limits.min_sockets.default: True is no number; write one"),
        ("default = 100,", 'default = "100",', "limits.min_sockets.default: '100' is no number; write one"),
        ("default = 100,", f"default = {'9' * 400},", "a number with too many digits is out of bounds"),
        ("default = 100,", "default = [],", "a list is no number"),
        ("default = 100,", f'default = "{"a" * 99}",', "aaa... is no number"),
        (
            'unit = "count"',
            'unit = "counts"',
            "limits.min_sockets.unit: 'counts' is not possible; did you mean count?",
        ),
        (
            'reason = "own: a handful is none"',
            'reason = ""',
            "limits.min_sockets.reason: is empty; write a text",
        ),
        (', reason = "own: a handful is none"', "", "limits.min_sockets.reason: is missing; add it"),
        (
            'min_sockets = { default = 100, unit = "count", reason = "own: a handful is none" }',
            "min_sockets = 3",
            "limits.min_sockets: is no table",
        ),
        ("warning  = ", "warnign  = ", "fires.warnign: there is no such key; did you mean warning?"),
        (
            'limit.worse"',
            'limit.wors"',
            "fires.critical: `limit.wors`: there is no such limit; did you mean worse?",
        ),
        ("[prose]", "[[prose]]", "prose: is no table"),
        ("summary     =", "summery     =", "prose.summery: there is no such key; did you mean summary?"),
        ("{leak.owned}", "{leak.owend}", "prose.headline: in {}: `leak.owend`: there is no such fact"),
        ('["a pool that is never full"]', '""', "prose.normal_when: is no list of printable texts"),
        ('kind   = "code"', 'kind   = "kode"', "fix[1].kind: 'kode' is not possible; did you mean code?"),
        ('risk   = "A descriptor may be in use."\n', "", "fix[1].risk: is missing; add it"),
        (
            'do     = "Call close()."\ncommands = ["ss -tnp | grep -c {leak.owned:n}"]\n',
            "",
            "fix[1].do: is missing; add it",
        ),
        (
            'kind   = "code"',
            'kind   = "code"\nname = "x"',
            'fix[1].name: belongs to a sysctl fix and this is a code fix; write kind = "sysctl"',
        ),
        (
            'undo       = "sysctl',
            'undone     = "sysctl',
            "fix[2].undone: there is no such key; did you mean undo?",
        ),
        (
            '"net.ipv4.timeout"',
            '"net.ipv4.timeuot"',
            "fix[2].name: 'net.ipv4.timeuot' is no sysctl that is read; did you mean net.ipv4.timeout?",
        ),
        (
            '"sysctl.net.ipv4.timeout / 2"',
            '"leak.owned"',
            "fix[2].value: number 1 is in count and net.ipv4.timeout in seconds",
        ),
        ('"sysctl.net.ipv4.timeout / 2"', '"process.name"', "fix[2].value: `process.name` is a text"),
        (
            '"sysctl.net.ipv4.timeout / 2"',
            "[1, 2]",
            "fix[2].value: has 2 numbers and net.ipv4.timeout 1; write 1",
        ),
        ('"sysctl.net.ipv4.timeout / 2"', "nan", "fix[2].value: nan is out of bounds"),
        (
            '"sysctl.net.ipv4.timeout / 2"',
            '{ add = "process.name" }',
            "fix[2].value.add: `process.name` is a text",
        ),
        ('"sysctl.net.ipv4.timeout / 2"', '{ del = "3" }', "fix[2].value.del: there is no such key"),
        ('value      = "sysctl.net.ipv4.timeout / 2"\n', "", "fix[2].value: is missing; add it"),
        ('applies_to = "namespace"', 'applies_to = "all"', "fix[2].applies_to: 'all' is not possible"),
        ("[[wrong_fix]]", "[wrong_fix]", "wrong_fix: is no list of tables; write [[wrong_fix]]"),
        (
            'undo       = "sysctl',
            'commands = ["x"]\nundo = "sysctl',
            "fix[2].commands: of a sysctl fix are made from name and value",
        ),
        (
            '["ss -tnp | grep -c {leak.owned:n}"]',
            '["ss -tnp\\nss -s"]',
            "fix[1].commands: a command has more than one line",
        ),
        ('"ss -tn | grep -c {leak.owned:n}"', "[]", "fix[1].verify: is an empty list; write a command"),
        (
            '"older(leak.ages, limit.min_age)"\nmeasure_limit',
            '"process.name"\nmeasure_limit',
            "measure: `process.name` is a text; write a number or an expression",
        ),
        (
            'warning = "min_sockets"',
            'warning = "min_socket"',
            "measure_limit: there is no limit 'min_socket'",
        ),
        (
            'warning = "min_sockets"',
            'warning = "min_age"',
            "measure_limit: min_age is in seconds and measure in count; make them equal",
        ),
        ('{ warning = "min_sockets",', '{ info = "min_sockets",', "measure_limit.info: there is no such key"),
        ('claim  = "there is no timer"\n', "", "reference[1].claim: is missing; add it"),
        ('expect = "warning"', 'expect = "fires"', "test[1].expect: 'fires' is not possible"),
        ("id     =", "id     ==", "not TOML: "),
    ],
)
def test_complaints_name_file_key_and_remedy(old, new, says):
    assert says in complaint(old, new)


def test_a_rule_without_a_condition_is_none():
    text = "\n".join(line for line in RULE.splitlines() if not line.startswith(("warning ", "critical ")))
    with pytest.raises(RuleError, match=r"fires: has no condition; write at least one of"):
        rule(text)


def test_a_file_has_a_largest_size():
    with pytest.raises(RuleError, match="a file has at most 65536"):
        rule(RULE + "#" * 65536)


GIVEN = '"leak.ages" = { count = 100, each = 120 }'


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            '"leak.agse" = 3',
            "test[1].given.leak.agse: is no fact of the scope process; did you mean leak.ages?",
        ),
        ('"listener.port" = 3', "is no fact of the scope process"),
        ('"leak.ages" = 3', "is no table"),
        ('"leak.ages" = "many"', "does not fit a fact of kind ages; write { count = 120, each = 600 }"),
        ('"leak.owned" = "many"', "does not fit a fact of kind gauge; write 120,"),
        ('"Tcp.Out" = 3', "does not fit a fact of kind counter; write { delta = 10, seconds = 1 }"),
        ('"process.name" = 3', 'does not fit a fact of kind text; write "some text"'),
        ('"leak.owned" = -3', "-3 is out of bounds"),
        ('"leak.owned" = { at_most = 3 }', "test[1].given.leak.owned.at_least: is missing"),
        ('"leak.owned" = { at_least = 3, at_most = 2 }', "at_most: is below at_least; exchange them"),
        ('"Tcp.Out" = { delta = 3, seconds = 0 }', "seconds: 0 is no time between two samples"),
        ('"Tcp.Out" = { delta = 3.5, seconds = 1 }', "delta: write a whole number"),
        ('"Tcp.Out" = { rate = 0.5 }', "rate: write a whole number"),
        ('"leak.ages" = { count = 3.5, each = 1 }', "count: write a whole number up to 1000000"),
        ('"leak.ages" = { count = 1e9, each = 1 }', "count: write a whole number up to 1000000"),
        ('"leak.ages" = { count = 3 }', "each: is missing"),
        ('"leak.ages" = [{ count = 3, each = 1 }, 3]', "given.leak.ages: is no table"),
    ],
)
def test_given_facts_that_do_not_fit(given, says):
    assert says in complaint(GIVEN, given)


def test_blanks_are_named_by_their_keys():
    parsed = {
        "title": " ",
        "since": "0.1",
        "limits": {"a": {"default": 7, "reason": ""}},
        "fix": [{"do": ""}, {"do": "x"}],
        "tags": ["", "b"],
    }
    assert list(empty_texts(parsed)) == ["title", "limits.a.reason", "fix[1].do", "tags"]


def test_a_rule_explains_others_by_their_ids():
    read = rule(RULE.replace("[limits]", 'explains = ["other-leak"]\n[limits]', 1))
    assert read.explains == ("other-leak",)
    assert "'Other' is no id" in complaint("[limits]", 'explains = ["Other"]\n[limits]')


def test_a_warning_by_upper_ends_comes_after_the_others():
    upper = 'warning_upper = "older(leak.ages, limit.min_age) >= 1"\nwarning  ='
    read = rule(RULE.replace("warning  =", upper, 1))
    assert [trigger.key for trigger in read.fires] == ["critical", "warning", "warning_upper"]


def test_one_name_is_the_limit_of_the_lowest_severity():
    text = RULE.replace('{ warning = "min_sockets", critical = "worse" }', '"min_sockets"')
    assert rule(text).measure_limits == {Severity.WARNING: "min_sockets"}


def test_less_may_be_worse():
    text = RULE.replace("measure_limit", "measure_below")
    assert (rule(text).measure_falls, rule().measure_falls) == (True, False)
    assert rule(text).measure_limits == rule().measure_limits


def test_a_body_that_was_packed_with_the_rule_is_that_of_its_text():
    plain = rule()
    packed = plain._replace(packed=pickle.dumps(read_body(plain)), text="")
    assert read_body(packed) == read_body(plain)


@pytest.mark.parametrize("value", [-1, 0, 30])
def test_a_setting_may_be_given_any_number_the_kernel_takes(value):
    few = '{ "leak.ages" = { count = 99, each = 120 }'
    body = read_body(rule(RULE.replace(few, f'{few}, "sysctl.net.ipv4.timeout" = {value}')))
    assert body.tests[2].given["sysctl.net.ipv4.timeout"] == value


def test_of_many_names_a_few_are_shown_where_none_is_near():
    names = [f"name-{number:03}" for number in range(50)]
    assert suggest("qqqq", names) == "there are 50, such as name-000, name-001, name-002"
    assert suggest("qqqq", names[:2]) == "there are name-000, name-001"
    assert suggest("name-0071", names) == "did you mean name-007?"
