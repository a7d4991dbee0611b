"""Text that strangers choose, at its worst: what a report may be tricked with."""

from tests.report.examples import FINDING

NASTY = "a|b'c\"d\\e\n</failure>]]>&amp;\x00\x1b[31m\u202e<script>`;&#x1;|'x'=9\r\ufffe\ud800"
NASTY_FINDING = FINDING._replace(
    label=NASTY,
    title=NASTY,
    summary=NASTY,
    explanation=NASTY,
    impact=f"    {NASTY}",
    evidence=(FINDING.evidence[0]._replace(fact=NASTY, source=NASTY, shown=NASTY),),
    fixes=tuple(
        fix._replace(title=NASTY, do=NASTY, risk=NASTY, verify=f"ss {NASTY}") for fix in FINDING.fixes
    ),
    normal_when=(NASTY,),
)
