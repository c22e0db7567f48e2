"""Remains of a web page's machinery in its plain text, and characters that were garbled on the way."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, takewhile

from lmworks.corpus.edits import apply_edits, compose
from lmworks.corpus.modifiers.text_lines import cut_lines, fenced, split_lines
from lmworks.records import Edit

_LONGEST = 200  # characters of a line of machinery
_LONGEST_ITEM = 40  # characters of a line that is repeated as part of a navigation
_REPEATED = 3  # times that it stands in the text

_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]+")
# What Latin-1 has for control characters are letters and marks of Windows-1252, if anything: browsers read them so.
_AS_WINDOWS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
_CONTROLS_READ: dict[int, str] = {**dict.fromkeys((*range(0x20), 0x7F), ""), **_AS_WINDOWS}
# Joiners join letters and pictures in other scripts; behind a Latin letter they do nothing.
_INVISIBLE = re.compile("(?<=[\x00-\u036f])[\u200b-\u200d\u2060\ufeff]+|[\u200b\u2060\ufeff]+")
_TOKEN = re.compile(r"\S+|\s+")

_NETWORKS = "facebook|twitter|linkedin|whatsapp|pinterest|reddit|telegram|instagram|youtube|tumblr|e-?mail|print"
_COOKIES = re.compile(
    r"\bcookies?\b.*\b(?:accept|agree|consent|settings|polic(?:y|ies)|preferences|zustimm|akzeptier|accepte[rz]|"
    r"aceptar?|accetta)|\b(?:accept|allow|reject|manage)(?: all)? cookies\b|\buses? cookies\b|verwende(?:n|t) cookies|"
    r"utilis(?:e|ons) des cookies|utiliza(?:mos)? cookies|by continuing to (?:use|browse)",
    re.I,
)
_MACHINERY = re.compile(
    rf"(?:share|tweet|pin it|like|print|e-?mail|reply|report|permalink|follow|subscribe|download|bookmark|save)"
    rf"(?: (?:this(?: (?:post|page|article|story|entry))?|(?:on|via|to|with|by) (?:{_NETWORKS}|friends)|"
    rf"us(?: on (?:{_NETWORKS}))?))?|"
    rf"(?:{_NETWORKS})(?:[\s|,/·•]+(?:{_NETWORKS}))*|"
    r"(?:click here to )?(?:read|see|view|show|load|learn) (?:more|all|less|the (?:full article|rest))"
    r"(?:[ :»›>…][^.!?]{0,30})?|"
    r"continue reading\b.{0,60}|weiterlesen|mehr (?:lesen|erfahren|anzeigen)|lire (?:la suite|plus)|en savoir plus|"
    r"leer más|ver más|leggi tutto|continua a leggere|lees (?:meer|verder)|läs mer|czytaj (?:dalej|więcej)|"
    r"skip to (?:main )?(?:content|navigation)|(?:back|return) to top|jump to (?:navigation|content|search)|"
    r"leave a (?:reply|comment)\b.{0,40}|post a comment|(?:log|sign) ?in(?: (?:or|to)\b.{0,40})?|sign ?up\b.{0,40}|"
    r"your e-?mail address will not be published.{0,60}|\d+ (?:comments?|shares?|likes?|views?)|"
    r"(?:subscribe|sign up) (?:to|for) (?:our\b|the (?:\w+ )?(?:newsletter|mailing list|e-?mails?|updates)).{0,60}|"
    r"advertisements?|sponsored(?: content)?|"
    r"loading(?:\.{3}|…)?|(?:previous|next) (?:post|article|page)|(?:copyright )?(?:©|\(c\))\s?\d{4}.{0,80}|"
    r"all rights reserved\.?|terms (?:of (?:use|service)|and conditions)|privacy policy|site ?map|"
    r"please enable javascript.{0,80}|you are here:?.{0,80}|related (?:posts|articles|stories):?",
    re.I,
)
_NAVIGATION = re.compile(r"[^|•·»>/]{1,25}(?:\s*[|•·»]\s*[^|•·»>/]{1,25}){2,}")
_PLACES = re.compile(
    r"\b(?:home|about|contact|log ?in|privacy|terms|site ?map|faq|help|search|impressum|startseite|datenschutz|accueil|"
    r"inicio|contacto|mentions légales|newsletter|rss)\b",
    re.I,
)


def repair_encoding(text: str) -> list[Edit]:
    """Text that was decoded by the wrong encoding, decoded by the right one (ftfy's `fix_encoding`).

    Rule: `character.encoding`. ImportError where ftfy is not installed and the text has other than ASCII characters.
    """
    if text.isascii():
        return []
    from ftfy import fix_encoding

    return [
        Edit(start + a, start + b, new, "character.encoding")
        for line, start in zip(*split_lines(text), strict=False)
        if not line.isascii()
        for a, b, new in _differences(line, fix_encoding(line))
    ]


def _differences(line: str, fixed: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of the words that differ; of the line, where words were joined or parted."""
    old, new = _TOKEN.findall(line), _TOKEN.findall(fixed)
    pairs = list(zip(old, new, strict=True)) if len(old) == len(new) else [(line, fixed)]
    start = 0
    for differ, run in groupby(pairs, key=lambda pair: pair[0] != pair[1]):
        before, after = map("".join, zip(*run, strict=True))
        if differ:
            head = _common(before, after)
            tail = _common(before[head:][::-1], after[head:][::-1])
            yield start + head, start + len(before) - tail, after[head : len(after) - tail]
        start += len(before)


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def repair_characters(text: str) -> list[Edit]:
    """Control characters and invisible ones removed, letters composed (NFC); control characters that are marks of
    Windows-1252 (U+0092 for an apostrophe) replaced. Rules: `character.control`, `character.invisible`,
    `character.composed`."""
    edits = [
        Edit(*each.span(), each[0].translate(_CONTROLS_READ), "character.control") for each in _CONTROL.finditer(text)
    ]
    if text.isascii():
        return edits
    edits += [Edit(*each.span(), "", "character.invisible") for each in _INVISIBLE.finditer(text)]
    composed = [
        Edit(start + word.start(), start + word.end(), normal, "character.composed")
        for line, start in zip(*split_lines(apply_edits(text, edits).text), strict=False)
        if not unicodedata.is_normalized("NFC", line)
        for word in _TOKEN.finditer(line)
        if (normal := unicodedata.normalize("NFC", word[0])) != word[0]
    ]
    return compose(text, edits, composed)


def repair_machinery(text: str) -> list[Edit]:
    """Cut lines of a page's machinery.

    Rules: `web.cookies`; `web.machinery` for share buttons, "read more", log-ins and the like; `web.navigation` for
    lists of places, and for short lines that are no sentences and stand in the text three times, but for the first.
    """
    lines, starts = split_lines(text)
    counts = Counter(line.strip() for line in lines if len(line) <= _LONGEST_ITEM)
    seen: set[str] = set()
    rules: list[str] = []
    for line, is_code in zip(lines, fenced(lines), strict=True):
        bare = line.strip()
        rules.append("" if not bare or is_code or len(bare) > _LONGEST else _rule(bare))
        is_text = is_code or not bare or line[0] in " \t"
        if not is_text and not rules[-1] and counts[bare] >= _REPEATED and _is_item(bare):
            rules[-1] = "web.navigation" if bare in seen else ""
            seen.add(bare)
    return cut_lines(rules, starts)


def _rule(line: str) -> str:
    if _COOKIES.search(line):
        return "web.cookies"
    if _MACHINERY.fullmatch(line.strip(" \t*_#>[]()»›→|+-")):
        return "web.machinery"
    is_list = line[0] != "|" and _NAVIGATION.fullmatch(line) and len(_PLACES.findall(line)) >= 2
    return "web.navigation" if is_list else ""


def _is_item(line: str) -> bool:
    """Whether a short line may be one of a navigation: no sentence, no heading, no code."""
    return any(map(str.isalpha, line)) and line[-1] not in ".!?…:;,{}()\"'”’»" and line[0] not in "#-*+>|`=<{}()"
