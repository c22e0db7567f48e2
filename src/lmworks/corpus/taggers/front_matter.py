"""Parts before and behind the text of a book: title page, contents, index, advertisements, colophon, licences.

Each part is found by its heading and by its structure (lines that end in page numbers, short lines without
sentences), and is a span with a score: how sure that is. Prefaces and appendices belong to the text. Chapters are
found by their headings.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.modifiers.text_lines import LABELS, ends_sentence, roman_value, runs_on, split_lines
from lmworks.corpus.patterns import read_patterns
from lmworks.corpus.taggers.tagger import Text, built_in, without_overlaps
from lmworks.records import Edit

_HEAD = 40_000  # characters within which a licence at the head ends
_FRONT = 8000  # characters of a front, and of the end of a book, at least; or a tenth of it
_PATIENCE = 3  # lines in a row that need not look like a list's
_FEWEST = 3  # items of a list
_LONGEST_LINE = 100
_LONGEST_HEADING = 60
_SURE = 0.6  # score from which a part is cut
_LONGEST_TITLE = 120  # characters of the heading of a chapter

PATTERNS = read_patterns(__file__, labels=LABELS)


def front_matter(text: Text) -> Attributes:
    """Tag the front and back matter of a book that `repair_matter` left, which cuts what is sure."""
    return Attributes({}, tuple(find_matter(text.text)) if text.kind == "book" else ())


FRONT_MATTER = built_in("front_matter", front_matter)


def repair_matter(text: str) -> list[Edit]:
    """Cut the front and back matter that is sure to be some. The rules are those of `find_matter`."""
    return [Edit(span.start, span.end, "", span.rule) for span in find_matter(text) if span.score >= _SURE]


def find_matter(text: str) -> list[TaggedSpan]:
    """Front and back matter, in order; of two parts that overlap the surer one, or of two as sure the one that begins
    first. The rules are those of `FRONT_MATTER`."""
    lines, starts = split_lines(text)
    found: list[TaggedSpan] = []
    start, end = 0, len(text)  # of the book within a licence around it
    if match := PATTERNS["start_frame"].search(text, 0, _HEAD) or PATTERNS["small_print"].search(text, 0, _HEAD):
        start = match.end()
        found.append(TaggedSpan("matter.licence", 0, start))
        if (credit := PATTERNS["producer"].match(text, start)) and credit.end() - start < 1000:
            start = credit.end()
            found.append(TaggedSpan("matter.producer", credit.start("credit"), start, 0.9))
    if match := PATTERNS["end_frame"].search(text, start):
        end = match.start()
        found.append(TaggedSpan("matter.licence", end, len(text)))
    found += _lists(lines, starts, start, end)
    found += _paragraphs(text, start, end)
    found += _title_page(text, start, found)
    return without_overlaps(found, lambda span: (-span.score, span.start))


def _lists(lines: Sequence[str], starts: Sequence[int], start: int, end: int) -> list[TaggedSpan]:
    """Contents, indexes and advertisements, by their headings."""
    found: list[TaggedSpan] = []
    length = end - start
    edge = max(_FRONT, length // 10)
    done = 0
    for line, text in enumerate(lines):
        heading = text.strip(" \t\r\f#*_") if len(text) <= _LONGEST_HEADING else ""
        position = starts[line] - start
        if line < done or not heading or heading[0].islower() or not 0 <= position < length:
            continue
        if PATTERNS["contents"].fullmatch(heading):
            rule, (last, score) = "matter.contents", _contents(lines, line + 1)
        elif PATTERNS["index"].fullmatch(heading) and position > 0.6 * length:
            rule, (last, items, score) = "matter.index", _listing(lines, line + 1, _is_index_line, lambda *_: False)
            last = last if items >= _FEWEST else 0
        elif (
            PATTERNS["advertisements"].fullmatch(heading)
            and not "".join(lines[line - 1 : line]).strip()
            and not edge < position < length - edge
        ):
            rule = "matter.advertisements"
            last, score = _advertised(lines, starts, line, end, at_the_end=position > length / 2)
        else:
            continue
        if last > line:
            found.append(TaggedSpan(rule, starts[line], min(end, starts[last]), score))
            done = last
    return found


def _page_of(line: str) -> re.Match[str] | None:
    """The page number that an entry ends with; the number of "Chapter 3" is none."""
    page = PATTERNS["page"].search(line)
    if page is None or (page["roman"] and not roman_value(page["roman"])):
        return None
    entry = line[: page.start()]
    return page if any(map(str.isalpha, entry)) and not PATTERNS["label"].fullmatch(entry) else None


def _is_entry(line: str) -> bool:
    return len(line) <= _LONGEST_LINE and bool(_page_of(line) or PATTERNS["entry"].match(line))


def _is_index_line(line: str) -> bool:
    return len(line) <= 2 * _LONGEST_LINE and bool(PATTERNS["index_line"].fullmatch(line))


def _contents(lines: Sequence[str], first: int) -> tuple[int, float]:
    """`_listing` of contents. The heading of the first chapter ends it: it says the same as an entry, or stands alone
    where entries stood together, or has no page number where they have."""
    seen: set[str] = set()
    paged = together = 0

    def key(line: str) -> str:
        return "".join(filter(str.isalnum, line)).casefold()

    def is_over(line: int, bare: str) -> bool:
        nonlocal paged, together
        page = _page_of(bare)
        alone = not lines[line - 1].strip() and not "".join(lines[line + 1 : line + 2]).strip()
        if key(bare) in seen or (alone and (together >= _FEWEST or (paged >= _FEWEST and not page))):
            return True
        paged += page is not None
        together += not alone
        seen.add(key(bare[: page.start()] if page else bare))
        return False

    last, items, share = _listing(lines, first, _is_entry, is_over)
    return (last, share) if paged >= _FEWEST or items >= 2 * _FEWEST else (0, 0.0)


def _listing(
    lines: Sequence[str], first: int, is_item: Callable[[str], bool], is_over: Callable[[int, str], bool]
) -> tuple[int, int, float]:
    """The line behind the last item of a list, how many items it has, and which share of its lines that is."""
    last = items = in_row = total = total_at_last = 0
    for line in range(first, len(lines)):
        bare = lines[line].strip()
        if not bare:
            continue
        if is_over(line, bare):
            break
        total += 1
        if is_item(bare):
            items += 1
            last, total_at_last, in_row = line + 1, total, 0
            continue
        in_row += 1
        if in_row > _PATIENCE or len(bare) > 2 * _LONGEST_LINE:
            break
    return last, items, items / max(1, total_at_last)


def _advertised(
    lines: Sequence[str], starts: Sequence[int], line: int, end: int, at_the_end: bool
) -> tuple[int, float]:
    """The line behind the advertisements under a heading, and a score. They end with the book, or in front of its text
    with the next two empty lines, which have to be near."""
    last = bisect_left(starts, end, hi=len(lines))
    if not at_the_end:
        limit = min(end, starts[line] + _FRONT)
        near = range(line + 3, bisect_left(starts, limit, hi=len(lines)))
        gap = next((at for at in near if not lines[at - 1].strip() and not lines[at].strip()), None)
        if gap is None and limit < end:
            return 0, 0.0
        last = last if gap is None else gap
    if PATTERNS["price"].search("\n".join(lines[line:last])):
        return last, 0.9
    items = [bare for each in lines[line + 1 : last] if (bare := each.strip())]
    short = sum(len(bare) <= _LONGEST_HEADING and not ends_sentence(bare) for bare in items)
    return last, 0.6 if short >= 0.8 * len(items) else 0.3  # titles, or text under a heading like theirs


def _paragraphs(text: str, start: int, end: int) -> list[TaggedSpan]:
    """Imprints near either end, and the printer's words at the very end."""
    found: list[TaggedSpan] = []
    for paragraph in PATTERNS["paragraph"].finditer(text, start, end):
        length = len(paragraph[0])
        if length > 1500 or start + _FRONT <= paragraph.start() <= end - _FRONT // 2:
            continue
        imprints = list(PATTERNS["imprint"].finditer(paragraph[0]))
        words = {match[0].casefold() for match in imprints}
        if length <= 300 and paragraph.end() > end - 1000 and PATTERNS["colophon"].match(paragraph[0]):
            found.append(TaggedSpan("matter.colophon", *paragraph.span(), 0.8))
        elif words and (length <= 200 or len(words) > 1):
            # A preface may tell of editions, and people of what was printed: an imprint begins as one, or tells a year
            # and whose rights it has.
            begins = not any(map(str.isalnum, paragraph[0][: imprints[0].start()]))
            rights = any(match["rights"] for match in imprints)
            has_year = rights and bool(PATTERNS["year"].search(paragraph[0]))
            is_imprint = rights if length > 200 else begins or has_year
            score = min(1.0, 0.4 + 0.2 * len(words)) if is_imprint else 0.4
            found.append(TaggedSpan("matter.copyright", *paragraph.span(), score))
    return found


def _title_page(text: str, start: int, found: Sequence[TaggedSpan]) -> list[TaggedSpan]:
    """The short lines before the first part of a book that has a heading."""
    anchors = [span.start for span in found if span.rule == "matter.contents"]
    if (first := first_chapter(text[start : start + _FRONT])) is not None:
        anchors.append(start + first)
    end = min(anchors, default=start)
    lines = [line.strip() for line in text[start:end].split("\n") if line.strip()]
    if not lines or end - start > _FRONT // 2:
        return []
    short = sum(len(line) <= 60 for line in lines) / len(lines)
    finished = sum(
        len(line) > 30 and (ends_sentence(line) or runs_on(line, after)) for line, after in pairwise([*lines, ""])
    )
    evidence = {match.casefold() for match in PATTERNS["title_evidence"].findall(text[start:end])}
    if short < 0.8 or finished / len(lines) > 0.3 or not evidence:
        return []
    return [TaggedSpan("matter.title_page", start, end, min(1.0, 0.3 * short + 0.2 * len(evidence)))]


# ---------------------------------------------------------------------------------------------------------------------
# Chapters


def first_chapter(text: str) -> int | None:
    """The start of the line of the first chapter's heading; None where there is none.

    A heading stands between empty lines (or is marked as one in Markdown) and begins with a name such as "Chapter"
    and a number, or is one such as "Preface", or a numeral one alone on its line.
    """
    lines, starts = split_lines(text)
    return next((starts[line] for line in range(len(lines)) if _is_heading(lines, line)), None)


def _is_heading(lines: Sequence[str], line: int) -> bool:
    text = lines[line]
    bare = text.strip().lstrip("#").strip(" \t*_#") if len(text) <= 2 * _LONGEST_TITLE else ""
    if not bare or len(bare) > _LONGEST_TITLE:
        return False
    if PATTERNS["markdown"].match(text):
        return True
    if "".join(lines[line - 1 : line]).strip() or len("".join(lines[line + 1 : line + 2]).strip()) > _LONGEST_TITLE:
        return False
    match = PATTERNS["labelled"].fullmatch(bare) if bare[0].isupper() else None
    if match is None:
        return bare.removesuffix(".") in ("1", "I")
    rest = (match["rest"] or "").strip()
    # "Part I have seen" is a sentence: without a mark, a title has to begin as one, and not to end as a sentence
    return not rest or rest[0] in ".:,—–-" or (rest[0].isupper() and not rest.endswith((".", ",", ";")))
