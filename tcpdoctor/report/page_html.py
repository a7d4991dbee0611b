"""Blocks as HTML, and the one file that they stand in: its frame, its style sheet, its bars."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from tcpdoctor.diagnosis.finding import Severity
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.page import (
    COMMAND_IN_PROSE,
    Bars,
    Block,
    Command,
    Entries,
    Evidence,
    Fields,
    Found,
    Heading,
    Headline,
    Inset,
    Item,
    Items,
    Lines,
    More,
    Picture,
    Prose,
    Said,
    Section,
    Table,
    Title,
    Verdict,
    paragraphs,
)

# The style sheet of the HTML page: light and dark, screen and paper, wide and narrow.


CSS = """
:root{color-scheme:light dark;--page:#f4f5f7;--card:#fff;--ink:#1a1f27;--soft:#57606c;--line:#dfe3e8;
--code:#f0f2f5;--accent:#2456c7;--shade:0 1px 2px rgb(20 30 45/.06),0 4px 16px rgb(20 30 45/.05);
--ok:#16794a;--okbg:#e3f5eb;--warning:#8f5600;--warningbg:#fdf0d8;--critical:#b3201f;--criticalbg:#fde7e5;
--info:#2456c7;--infobg:#e6eefb;--unknown:#5b4bb0;--unknownbg:#ecebfa;
--live:#1f9d6b;--open:#3b82d6;--open2:#7fb2ec;--active:#8a5fd3;--active2:#b08be8;--active3:#6a3fb8;
--past:#9aa5b3;--passive:#e0702a;--passive2:#f0a46c;--listen:#3f4f66;--bound:#c5ccd6}
@media (prefers-color-scheme:dark){:root{--page:#0f1216;--card:#181c22;--ink:#e7eaee;--soft:#9aa6b4;
--line:#2a313a;--code:#11151a;--accent:#86aef9;--shade:0 0 0 1px #232a32;
--ok:#5fd39b;--okbg:#12301f;--warning:#f0b955;--warningbg:#332508;--critical:#ff8d86;--criticalbg:#3a1615;
--info:#86aef9;--infobg:#14233f;--unknown:#b6a9f5;--unknownbg:#221d3f;
--live:#34b983;--open:#5b9be6;--open2:#2f5f97;--active:#a27de4;--active2:#7450b4;--active3:#c9b0f5;
--past:#66717f;--passive:#ee8545;--passive2:#a85a2b;--listen:#8fa3bf;--bound:#414b58}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 56px}
h1,h2,h3,h4{line-height:1.25;margin:0}
h2{font-size:1.14rem}
p{margin:.5em 0}
a{color:var(--accent)}
.card,.hero,.finding{background:var(--card);border-radius:14px;box-shadow:var(--shade);padding:22px 24px;
margin:0 0 18px}
.hero{border-top:6px solid var(--tone);padding-top:20px}
.hero h1{font-size:1.75rem;font-weight:700;overflow-wrap:anywhere}
.hero .line{display:flex;flex-wrap:wrap;gap:10px 14px;align-items:center}
.pill{display:inline-block;border-radius:99px;padding:.12em .8em;font-weight:700;font-size:.8rem;
letter-spacing:.04em;color:var(--tone);background:var(--tonebg);white-space:nowrap}
.hero .pill{font-size:1rem}
.hero .said{font-size:1.12rem;margin:.45em 0 .3em}
.meta,.note{color:var(--soft);font-size:.9rem;margin:.3em 0}
.note{margin:.25em 0 1em}
.is-ok{--tone:var(--ok);--tonebg:var(--okbg)}.is-warning{--tone:var(--warning);--tonebg:var(--warningbg)}
.is-critical{--tone:var(--critical);--tonebg:var(--criticalbg)}.is-info{--tone:var(--info);--tonebg:var(--infobg)}
.is-unknown{--tone:var(--unknown);--tonebg:var(--unknownbg)}
.tiles{display:grid;
grid-template-columns:repeat(auto-fit,minmax(118px,1fr));gap:10px;margin:18px 0 0;padding:0;
list-style:none}
.tiles li{background:var(--tonebg,var(--code));border-radius:10px;padding:10px 14px}
.tiles b{display:block;font-size:1.5rem;line-height:1.2;color:var(--tone,var(--ink));
font-variant-numeric:tabular-nums}
.tiles .none{--tone:var(--soft);--tonebg:var(--code)}.tiles .plain{--tone:var(--ink);--tonebg:var(--code)}
.tiles span{font-size:.84rem;color:var(--soft)}
.toc{margin:16px 0 0;padding:0;list-style:none;border-top:1px solid var(--line)}
.toc li{padding:9px 0;border-bottom:1px solid var(--line);display:flex;gap:12px;align-items:baseline}
.toc li:last-child{border:0;padding-bottom:0}
.toc a{text-decoration:none;color:inherit;overflow-wrap:anywhere}.toc a:hover{text-decoration:underline}
.toc .pill{min-width:7.8em;text-align:center;font-size:.72rem}
.toc .whom{color:var(--soft)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:18px;margin:0 0 18px}
.pair .card{margin:0}
.finding{border-left:6px solid var(--tone);overflow-wrap:anywhere}
.finding h2{font-size:1.3rem;margin:.35em 0 .2em}
.finding h3{font-size:1rem;margin:1.5em 0 .5em}
.finding h4{font-size:1rem;margin:0}
.finding .whom{font-weight:600}
.finding .summary{font-size:1.06rem}
.headline{color:var(--soft);margin:.2em 0}
details.finding{border-top:0;margin:0 0 18px}
details.finding>summary{font-weight:400;list-style-position:outside}
.also{border-top:1px solid var(--line);margin-top:1.2em;padding-top:.9em}
dl{display:grid;grid-template-columns:minmax(5em,max-content) 1fr;gap:.3em 1.2em;margin:.6em 0}
dt{color:var(--soft)}dd{margin:0;min-width:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th{text-align:left;overflow-wrap:normal;color:var(--soft);font-weight:600;font-size:.82rem}
th{padding:4px 12px 6px 0}
td{border-top:1px solid var(--line);padding:7px 12px 7px 0;vertical-align:top}
td:last-child,th:last-child{padding-right:0}
.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.num{font-weight:600}
code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{overflow-wrap:anywhere}
pre,.note code,.typed{user-select:all;-webkit-user-select:all}
.picture{white-space:pre}
pre{background:var(--code);border:1px solid var(--line);border-radius:8px;padding:9px 13px;margin:.5em 0;
overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
.fixes{margin:0;padding:0;list-style:none;counter-reset:fix}
.fixes>li{counter-increment:fix;position:relative;padding:0 0 0 42px;margin:0 0 1.3em}
.fixes>li::before{content:counter(fix);position:absolute;left:0;top:-2px;width:28px;height:28px;line-height:28px;
text-align:center;border-radius:50%;font-weight:700;font-size:.9rem;color:var(--tone);background:var(--tonebg)}
.kind{color:var(--soft);font-weight:400;font-size:.86rem;white-space:nowrap}
.label{font-family:inherit;color:var(--soft);font-weight:600;font-size:.88rem}
.also details{border:0;margin:0;padding:0}.also summary{font-weight:400;color:var(--soft);font-size:.9rem}
details{border-top:1px solid var(--line);margin-top:.8em;padding-top:.6em}
summary{cursor:pointer;font-weight:600}
summary:focus-visible,a:focus-visible,
.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:3px;
border-radius:4px}
details ul{margin:.6em 0 .2em;padding-left:1.2em}details li{margin:.35em 0}
.bar{display:flex;height:22px;border-radius:7px;overflow:hidden;background:var(--code);
box-shadow:inset 0 0 0 1px var(--line)}
.bar.thin{height:12px;border-radius:6px}
.fill{display:block;min-width:2px;height:100%;background:var(--c);print-color-adjust:exact;
-webkit-print-color-adjust:exact}
.legend{display:grid;grid-template-columns:repeat(auto-fill,minmax(168px,1fr));gap:5px 22px;margin:14px 0 0;
padding:0;list-style:none;font-size:.92rem}
.legend li{display:flex;align-items:center;gap:9px}
.legend b{margin-left:auto;font-variant-numeric:tabular-nums}
.legend .zero{color:var(--soft)}.legend .zero b{font-weight:400}
.dot{width:11px;height:11px;border-radius:3px;background:var(--c);flex:none;print-color-adjust:exact;
-webkit-print-color-adjust:exact}
.c-live{--c:var(--live)}.c-open{--c:var(--open)}.c-open2{--c:var(--open2)}.c-active{--c:var(--active)}
.c-active2{--c:var(--active2)}.c-active3{--c:var(--active3)}.c-past{--c:var(--past)}.c-passive{--c:var(--passive)}
.c-passive2{--c:var(--passive2)}.c-listen{--c:var(--listen)}.c-bound{--c:var(--bound)}
.ages td{border:0;padding:3px 10px 3px 0;vertical-align:middle}
.ages td:first-child{white-space:nowrap;width:1%}
.ages td:last-child{width:1%;text-align:right;font-variant-numeric:tabular-nums}
.ages .zero td,.ages .zero b{color:var(--soft);font-weight:400}
.track{display:flex;height:14px}
.track i{background:var(--c);min-width:2px;border-radius:4px;print-color-adjust:exact;
-webkit-print-color-adjust:exact}.track .pale{opacity:.4}
.ports td{vertical-align:middle}.ports .label{font-weight:400}
.ports td:nth-child(2){width:38%}
.c-critical{--c:var(--critical)}.c-warning{--c:var(--warning)}.c-unknown{--c:var(--unknown)}.c-ok{--c:var(--ok)}
.empty{color:var(--soft);margin:.4em 0 0}
.scroll{overflow-x:auto}
.machine{display:block;width:100%;min-width:620px;max-width:900px;margin:0 auto;height:auto}
.machine text{font-family:inherit;fill:var(--ink)}
.machine .edge{fill:none;stroke:var(--soft);stroke-width:1.4}
.machine .head{fill:var(--soft)}
.machine .say{font-size:12px;fill:var(--soft);paint-order:stroke;stroke:var(--card);stroke-width:5px;
stroke-linejoin:round}
.machine rect{fill:var(--card);stroke:var(--line);stroke-width:1.5}
.machine .full rect{stroke:var(--c);stroke-width:2}
.machine .stripe{fill:var(--c);stroke:none}
.machine .name{font-size:12.5px;font-weight:600}
.machine .count{font-size:19px;font-weight:700;text-anchor:end;font-variant-numeric:tabular-nums}
.machine .idle .name,.machine .idle .count{fill:var(--soft);font-weight:400}
.machine .sick rect.box{fill:var(--tonebg);stroke:var(--tone);stroke-width:2.5}
.machine .sick .count,.machine .sick .name{fill:var(--tone);font-weight:700}
.machine .end{fill:var(--soft);stroke:none}
.machine .why{font-size:11px;fill:var(--soft)}
.narrow{display:none;max-width:420px}
footer{color:var(--soft);font-size:.86rem;margin-top:26px}
@media (max-width:880px){.wide{display:none}.narrow{display:block;min-width:0}}
@media (max-width:760px){
main{padding:14px 10px 36px}.card,.hero,.finding{padding:16px 15px;border-radius:12px}
.pair{grid-template-columns:1fr}.hero h1{font-size:1.4rem}
.evidence th:nth-child(3){display:none}.evidence td:nth-child(3){display:block;border:0;padding-top:0;
grid-column:1/-1}.evidence tr{display:grid;grid-template-columns:1fr auto}.evidence thead th{border:0}
.toc li{flex-direction:column;gap:4px}.ports td:nth-child(2),.ports th:nth-child(2){display:none}}
@media print{:root{
color-scheme:light;--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--code:#f6f6f6;
--accent:#000;--shade:none}body{font-size:10.5pt}main{max-width:none;padding:0}
.card,.hero,.finding{box-shadow:none;border:1px solid #bbb;break-inside:avoid-page;padding:12px 14px}
.finding{border-left:6px solid var(--tone);break-inside:auto}h2,h3,h4{break-after:avoid}pre,tr,.fixes>li
{break-inside:avoid}details::details-content{content-visibility:visible;block-size:auto}.machine{min-width:0}
.toc a{color:#000}}
"""


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The browser itself is told to load and run nothing."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

GROUPS = {
    TcpState.ESTABLISHED: "live",
    TcpState.SYN_SENT: "open",
    TcpState.SYN_RECV: "open2",
    TcpState.FIN_WAIT_1: "active",
    TcpState.FIN_WAIT_2: "active2",
    TcpState.TIME_WAIT: "past",
    TcpState.CLOSE_WAIT: "passive",
    TcpState.LAST_ACK: "passive2",
    TcpState.LISTEN: "listen",
    TcpState.CLOSING: "active3",
    TcpState.BOUND: "bound",
}
"""The colour of each state, by the class that the style sheet gives it."""


def text(value: object) -> str:
    """Return anything as text for between tags or quotes; control characters are shown as escapes."""
    return escape(_CONTROL.sub(lambda match: ascii(match[0])[1:-1], str(value)), quote=True)


def _sentences(prose: str) -> str:
    """Return prose as text, its commands such that a click takes them whole."""
    return COMMAND_IN_PROSE.sub(r'<code class="typed">\1</code>', text(prose))


def html_page(title: str, body: str, style: str = "") -> str:
    """Return a page of one file, in ASCII, which no locale garbles; `body` is HTML, `title` is text.

    `style` follows the style sheet that every page has.
    """
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{text(title)}</title>\n'
        f"<style>{CSS}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def name_of(state: TcpState) -> str:
    """Return a state as people write it: ``CLOSE_WAIT``, ``bound``."""
    return "bound" if state is TcpState.BOUND else state.name


def pill(severity: Severity | str) -> str:
    """Return a severity as a coloured word."""
    key = severity.key if isinstance(severity, Severity) else severity
    return f'<span class="pill is-{key}">{key.upper()}</span>'


def section(title: str, body: str, note: str = "", kind: str = "") -> str:
    """Return a part of the page with its heading."""
    remark = f'<p class="note">{text(note)}</p>' if note else ""
    return f'<section class="card {kind}"><h2>{text(title)}</h2>{remark}{body}</section>\n'


def bar(parts: list[tuple[str, float]], label: str, kind: str = "") -> str:
    """Return a bar of parts, each a colour's class and its share of 1; `label` says it in words."""
    pieces = "".join(
        f'<i class="fill {color}" style="width:{share * 100:.2f}%"></i>'
        for color, share in parts
        if share > 0
    )
    return f'<div class="bar {kind}" role="img" aria-label="{text(label)}">{pieces}</div>'


# blocks


def page_html(blocks: Iterable[Block]) -> str:
    """Return blocks as HTML; a click selects a command whole, and unfolds what is folded without a script."""
    return "".join(_LAYOUTS[type(block)](block) for block in blocks)


def blocks_as_file(blocks: Iterable[Block]) -> str:
    """Return blocks as a page of one file, named after what it begins with."""
    every = list(blocks)
    return html_page(
        f"{_name_of(every)} - tcpdoctor", f'<article class="card">{page_html(every)}</article>\n'
    )


def _name_of(blocks: Sequence[Block]) -> str:
    """What a page is about: its first title, wherever that stands."""
    match blocks[0] if blocks else None:
        case Title(words, name):
            return name + words
        case Verdict(word, words):
            return f"{word}: {words}"
        case Heading(words):
            return words
        case Section(title, inside):
            return title or _name_of(inside)
    return "Answer"


def _title(block: Title) -> str:
    return f"<h2>{text(block.name + block.text)}</h2>"


def _heading(block: Heading) -> str:
    return f"<h1>{text(block.text)}</h1>"


def _verdict(block: Verdict) -> str:
    kind = f"is-{block.severity}" if block.severity else "is-info"
    return f'<h2><span class="pill {kind}">{text(block.word)}</span> {text(block.text)}</h2>'


def _headline(block: Headline) -> str:
    short = f'<p class="headline">{text(block.short)}</p>' if block.short else ""
    whom = f'{pill(block.severity)} <span class="whom">{text(block.whom)}</span>'
    return f"{whom}<h2>{text(block.title)}</h2>{short}"


def _prose(block: Prose) -> str:
    label = f'<span class="label">{text(block.label)}:</span> ' if block.label else ""
    kind = ' class="note"' if block.faint else ""
    parts = []
    for part in paragraphs(block.text):
        if isinstance(part, Command):
            parts += [f"<p>{label}</p>" if label else "", _typed(part.lines)]
        else:
            parts.append(f"<p{kind}>{label}{_sentences(part.text)}</p>")
        label = ""
    return "".join(parts)


def _typed(lines: Iterable[str]) -> str:
    return f"<pre><code>{text(chr(10).join(lines))}</code></pre>"


def _command(block: Command) -> str:
    label = f'<p><span class="label">{text(block.label)}:</span></p>' if block.label else ""
    return label + _typed(block.lines)


def _items(block: Items) -> str:
    items = "".join(f"<li>{_item(item)}</li>" for item in block.items)
    return f'<ol class="fixes">{items}</ol>' if block.numbered else f"<ul>{items}</ul>"


def _item(item: Item) -> str:
    kind = f" <span class='kind'>{text(item.kind)}</span>" if item.kind else ""
    if not item.text and item.lead:
        return f"<h4>{text(item.lead)}{kind}</h4>{page_html(item.blocks)}"
    lead = f"<b>{text(item.lead)}:</b> " if item.lead else ""
    lead += f"{pill(item.severity)} " if item.severity else ""
    return f"{lead}{_sentences(item.text)}{kind}{page_html(item.blocks)}"


def _entries(block: Entries) -> str:
    return _items(Items(block.items))


def _found(block: Found) -> str:
    return f"<p>{pill(block.severity)} {text(block.text)}</p>" + (
        _typed([block.command]) if block.command else ""
    )


def _fields(block: Fields) -> str:
    rows = "".join(f"<dt>{text(label)}</dt><dd>{_told(said)}</dd>" for label, said in block.rows)
    return f"<dl>{rows}</dl>" if rows else ""


def _told(said: Said) -> str:
    if isinstance(said, Lines):
        return _typed(said.lines)
    return _sentences(said if isinstance(said, str) else said.text)


def _table(block: Table) -> str:
    filled = [place for place in range(len(block.columns)) if any(row[place] for row in block.rows)]
    kinds = [' class="num"' if column.right else "" for column in block.columns]
    head = "".join(
        f'<th scope="col"{kinds[place]}>{text(block.columns[place].name)}</th>' for place in filled
    )
    rows = "".join(
        f"<tr>{''.join(f'<td{kinds[place]}>{text(row[place])}</td>' for place in filled)}</tr>"
        for row in block.rows
    )
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{whole}</div>' if filled else ""


def _bars(block: Bars) -> str:
    most = max((row.number for row in block.rows), default=0)
    return "".join(
        f"<p>{text(row.label)}: <b>{row.number:,}</b> <span class='label'>{text(row.hint)}</span></p>"
        + bar([("c-live", row.number / most)], f"{row.label}: {row.number:,}", "thin")
        for row in block.rows
    )


def _evidence(block: Evidence) -> str:
    rows = "".join(
        f"<tr><td><code>{text(fact)}</code></td><td class='num'>{text(value)}</td>"
        f"<td><code>{text(source)}</code></td></tr>"
        for fact, value, source in block.rows
    )
    return (
        '<table class="evidence"><thead><tr><th scope="col">What</th><th scope="col" class="num">Value</th>'
        f'<th scope="col">Where to see it</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _picture(block: Picture) -> str:
    return f'<div class="scroll" tabindex="0"><code class="picture">{text(block.text)}</code></div>'


def _section(block: Section) -> str:
    inside = page_html(block.blocks)
    if not inside:
        return ""
    if block.folded:
        return f"<details><summary>{text(block.title)}</summary>{inside}</details>"
    return f"<h3>{text(block.title)}</h3>{inside}" if block.title else inside


def _inset(block: Inset) -> str:
    return page_html(block.blocks)


def _more(block: More) -> str:
    return f'<p class="note">More: <code>{text(block.command)}</code></p>'


_LAYOUTS: Mapping[type, Callable[..., str]] = {
    Title: _title,
    Heading: _heading,
    Verdict: _verdict,
    Headline: _headline,
    Prose: _prose,
    Command: _command,
    Item: _item,
    Items: _items,
    Entries: _entries,
    Found: _found,
    Fields: _fields,
    Table: _table,
    Bars: _bars,
    Evidence: _evidence,
    Picture: _picture,
    Section: _section,
    Inset: _inset,
    More: _more,
}
