"""IFEval: instructions that a program can check, in prompts and in what answers them (Zhou et al. 2023).

Strict asks the response as it is; loose is content with any of eight variants of it: without its first line, its last,
or both, each with and without asterisks. An item's `instructions` name its checks, `arguments` are theirs, one mapping
each. The rules are those of the authors' program, except that a 0 among the arguments counts, that languages are
detected by py3langid, and sentences end as Punkt's English model has it (Kiss and Strunk 2006), without its tables of
abbreviations and of words that are capitalised only where a sentence begins: here both are short lists.
"""

import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby

from lmworks.corpus.taggers.language import py3langid
from lmworks.evaluate.metric import Item, Metric, Response, Value, each
from lmworks.limited_regex import compile_pattern, find_all
from lmworks.records import Unscored

_BULLET = r"^\s*\*[^\*].*$|^\s*-.*$"
CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
# As the Penn Treebank divides words: punctuation off, and 'll, n't, 's and their like.
_DIVIDED = re.compile(
    r"[\s;@#$%&?!\[\](){}<>\"“”‘’„«»…`]+|[,:](?!\d)|--|\.{2,}|(?=n't\b|'(?:s|m|d|ll|re|ve)\b)", re.IGNORECASE
)

_ABBREVIATIONS = frozenset(
    "adm ala ariz aug ave bros calif cie co col colo conn corp cos ct dec dr feb fla fri ft ga gen ill inc jan jr kan "
    "ky lt ltd maj messrs mg mich minn mr mrs ms nev nov oct ok okla ore pa ph.d prof rep sen sep sept sr st tenn tues "
    "va vs vt wash wed wis a.c a.d a.m c.v d.c l.a m.b.a n.c n.d n.h n.j n.m n.y p.m r.i s.a s.c u.k u.n u.s u.s.a "
    "c d e f g h k l m n p r s t u v w".split()
)
_BEGINNINGS = frozenset(
    "according although among both but despite even finally he here however i if in indeed instead it many "
    "meanwhile moreover most nevertheless nonetheless nor please seated separately similarly since so some such the "
    "there these they this though thus turn under when which while yes yet your".split()
)
_CLOSERS = r"\"'’‘“”«»)\]}"
_END = re.compile(rf"[.?!](?=[{_CLOSERS};:*@({{\[!?]|\s+\S)")
_TOKEN = re.compile(rf"[^\s{_CLOSERS}(;:*@{{\[!?,]*\Z")
_NEXT = re.compile(r"\s*([^\W_]*)")
_CLOSING = re.compile(rf"[{_CLOSERS}]+?(?:\s+|(?=--)|$)", re.MULTILINE)
_NUMERAL = re.compile(r"-?[.,]?\d[\d,.-]*")


def _holds(count: int, relation: str, limit: int) -> bool:
    """ValueError for a relation other than "less than" and "at least"."""
    return [count >= limit, count < limit][("at least", "less than").index(relation)]


def _count(text: str, pattern: str) -> int:
    return sum(1 for _ in find_all(compile_pattern(f"(?im){pattern}"), text))


def _plain(text: str) -> str:
    return text.strip().lower()


def _in_language(text: str, language: str) -> bool:
    """`language` is an ISO 639-1 code, of Chinese zh-cn; a text without a letter is in every language."""
    return not any(map(str.isalpha, text)) or py3langid(text.lower())[0] == language.removesuffix("-cn")


def _highlights(text: str) -> int:
    """Texts between asterisks; between double ones a text counts once more, and so do the authors."""
    single = re.findall(r"\*[^\n*]*\*", text)
    double = re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(found.strip("*").strip()) for found in [*single, *double])


def _parts(text: str, mark: str) -> list[str]:
    """The texts between marks, those at the ends where they are not empty; none where one between two marks is."""
    parts = [part.strip() for part in re.split(mark, text)]
    return [part for part in parts if part] if all(parts[1:-1]) else []


def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = text.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    if not 1 <= nth_paragraph <= count or not (words := parts[nth_paragraph - 1].split()):
        return False
    word = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'))[0].lower()
    return count == num_paragraphs and word == first_word.lower()


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _postscript(text: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    return bool(_count(text.lower(), _POSTSCRIPTS.get(marker, rf"\s*{marker.lower()}.*$")))


def word_count(text: str) -> int:
    """Words of letters, digits, underscores and the marks on letters, which no script writes between words."""
    if not text.isascii():
        text = "".join("_" if unicodedata.category(one)[0] == "M" else one for one in text)
    return len(re.findall(r"\w+", text))


def capital_words(text: str) -> int:
    return sum(word.isupper() for word in _DIVIDED.split(text))


def sentences(text: str) -> list[str]:
    """The sentences, without white space around them. A question or exclamation mark ends one wherever something
    follows, a line break none."""
    ends, words = [], [word.start() for word in re.finditer(r"\S+", text)]
    for _, found in groupby(_END.finditer(text), key=lambda place: bisect_right(words, place.start())):
        places = list(found)  # within one word with its punctuation; only the last one can end a sentence
        if any(_ends_sentence(text, place) for place in places):
            ends.append(places[-1].end())
    pieces = [text[start:end].lstrip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [p.strip() for number, p in enumerate(pieces) if (_CLOSING.sub("", p, count=1) if number else p)]


def _ends_sentence(text: str, found: re.Match[str]) -> bool:
    if found[0] != ".":
        return True
    before, after = _TOKEN.search(text, max(0, found.start() - 40), found.start()), _NEXT.match(text, found.end())
    token, word = before[0].lower() if before else "", after[1] if after else ""
    begins = word[:1].isupper() and word.lower() in _BEGINNINGS
    if len(token) == 1 and token.isalpha():
        listed = found.start() < 2 or text[found.start() - 2] == "\n"  # an outline: "A. Background"
        return token not in _ABBREVIATIONS and (begins or listed or not word[:1].isalpha())
    if token.endswith(".") or token.split("-")[-1] in _ABBREVIATIONS:
        return begins
    return not (_NUMERAL.fullmatch(token) and word[:1].islower())


# Instruction -> whether a text follows it; the arguments have the authors' names.
CHECKS: Mapping[str, Callable[..., bool]] = {
    "keywords:existence": lambda t, keywords: all(_count(t, word) for word in keywords),
    "keywords:frequency": lambda t, keyword, frequency, relation: _holds(_count(t, keyword), relation, frequency),
    "keywords:forbidden_words": lambda t, forbidden_words: not any(_count(t, rf"\b{w}\b") for w in forbidden_words),
    "keywords:letter_frequency": lambda t, letter, let_frequency, let_relation: _holds(
        t.lower().count(_plain(letter)), let_relation, let_frequency
    ),
    "language:response_language": lambda t, language: _in_language(t, language),
    "length_constraints:number_sentences": lambda t, num_sentences, relation: _holds(
        len(sentences(t)), relation, num_sentences
    ),
    "length_constraints:number_paragraphs": lambda t, num_paragraphs: len(_parts(t, r"\s?\*\*\*\s?")) == num_paragraphs,
    "length_constraints:number_words": lambda t, num_words, relation: _holds(word_count(t), relation, num_words),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda t, num_placeholders: _count(t, r"\[.*?\]") >= num_placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": lambda t, num_bullets: _count(t, _BULLET) == num_bullets,
    "detectable_format:constrained_response": lambda t: any(answer in t for answer in CONSTRAINED),
    "detectable_format:number_highlighted_sections": lambda t, num_highlights: _highlights(t) >= num_highlights,
    "detectable_format:multiple_sections": lambda t, section_spliter, num_sections: (
        _count(t, rf"(?-i:{section_spliter.strip()}\s?\d+)") >= num_sections
    ),
    "detectable_format:json_format": lambda t: is_json(
        re.sub(r"^(```json)?(```Json)?(```JSON)?(```)?", "", t.strip()).removesuffix("```").strip()
    ),
    "detectable_format:title": lambda t: any(one.strip("<> ") for one in re.findall(r"<<[^\n]+>>", t)),
    "combination:two_responses": lambda t: len(two := _parts(t, r"\*{6}")) == 2 and two[0] != two[1],
    "combination:repeat_prompt": lambda t, prompt_to_repeat: _plain(t).startswith(_plain(prompt_to_repeat)),
    "startend:end_checker": lambda t, end_phrase: t.strip().strip('"').lower().endswith(_plain(end_phrase)),
    "startend:quotation": lambda t: len(t.strip()) > 1 and t.strip()[0] == t.strip()[-1] == '"',
    "change_case:capital_word_frequency": lambda t, capital_frequency, capital_relation: _holds(
        capital_words(t), capital_relation, capital_frequency
    ),
    "change_case:english_capital": lambda t: t.isupper() and _in_language(t, "en"),
    "change_case:english_lowercase": lambda t: t.islower() and _in_language(t, "en"),
    "punctuation:no_comma": lambda t: "," not in t,
}


def variants(text: str) -> tuple[str, ...]:
    """The eight texts of which one must follow an instruction loosely."""
    lines = text.split("\n")
    texts = (text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])))
    return (*texts, *(each.replace("*", "") for each in texts))


def followed(instruction: str, arguments: Mapping[str, object], texts: Sequence[str]) -> bool:
    """Whether one of the texts follows the instruction; an empty one follows none. The hub writes an absent argument as
    null; a 0 is one that is there. ValueError for an instruction or arguments that there are not."""
    given = {name: value for name, value in arguments.items() if value is not None}
    if instruction not in CHECKS:
        raise ValueError(f"no check is called {instruction!r}")
    try:
        return any(text.strip() and CHECKS[instruction](text, **given) for text in texts)
    except TypeError as error:
        raise ValueError(f"{instruction}: {error}") from error


def _metric(name: str, loose: bool, by_prompt: bool) -> Metric:
    def measure(item: Item, response: Response) -> Value:
        instructions, arguments = item.fields["instructions"], item.fields["arguments"]
        texts = variants(response.text) if loose else (response.text,)
        try:
            kept = [followed(*one, texts) for one in zip(instructions, arguments, strict=True)]
        except ValueError as error:
            return Unscored(str(error))
        return float(all(kept)) if by_prompt else (float(sum(kept)), float(len(kept)))

    return Metric(name, each(measure), ("fields.instructions", "fields.arguments"), proportion=True)


prompt_strict = partial(_metric, "ifeval-prompt-strict", loose=False, by_prompt=True)
prompt_loose = partial(_metric, "ifeval-prompt-loose", loose=True, by_prompt=True)
instruction_strict = partial(_metric, "ifeval-instruction-strict", loose=False, by_prompt=False)
instruction_loose = partial(_metric, "ifeval-instruction-loose", loose=True, by_prompt=False)
