"""Main text of article pages: precision, recall and cost, beside trafilatura and resiliparse.

    .venv/bin/pip install trafilatura resiliparse    # into an environment that may be thrown away
    .venv/bin/python benchmarks/article_extraction.py [--data ../shared/data] [--half tuning|kept_back] [--rounds 3]
    .venv/bin/python benchmarks/article_extraction.py --manuals FOLDER ...    # pages of manuals instead
    .venv/bin/python benchmarks/article_extraction.py --expected FOLDER    # NAME/source.html and NAME/expected.html

The pages and the score are those of scrapinghub/article-extraction-benchmark: shingles of four tokens, means over
pages, F1 of the means. Weights and rules of lmworks were chosen on the half `tuning` alone. Each page is read by all
contenders in turns, whose order is turned around every round; told is the median over rounds of the milliseconds for a
page. Differences of F1 are to trafilatura's default, with the 95 % interval of a bootstrap over pages, in pairs.

Of manuals, such as those of Debian's packages debian-policy and debian-handbook, the text is what their markup tells
(`contenders/manuals.py`); here the headline, which is a part of it, is asked of lmworks too.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from contenders import comparison
from contenders.articles import Page, difference_interval, quality, read_expected, read_pages, score
from contenders.manuals import read_manual

from lmworks.corpus.extract.main_content import extract_main

Extract = Callable[[str], str]


def contenders(headline: bool) -> dict[str, Extract]:
    import trafilatura

    found: dict[str, Extract] = {
        "trafilatura": lambda html: trafilatura.extract(html) or "",
        "lmworks": lambda html: extract_main(html, headline),
    }
    try:
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.html import HTMLTree
    except ImportError:
        print("resiliparse is not installed: left out")
        return found
    return {**found, "resiliparse": lambda html: extract_plain_text(HTMLTree.parse(html), main_content=True)}


def measure(pages: list[Page], rounds: int, headline: bool = False) -> None:
    """Prints a line for each contender."""
    extractors = contenders(headline)
    htmls = [page.raw.decode("utf-8", "replace") for page in pages]
    texts: dict[str, list[str]] = {name: [""] * len(pages) for name in extractors}
    milliseconds: dict[str, list[float]] = {name: [] for name in extractors}
    for _, order in comparison.in_turns(list(extractors), rounds):
        spent = dict.fromkeys(extractors, 0.0)
        for number, html in enumerate(htmls):
            for name in order:
                start = time.process_time()
                texts[name][number] = extractors[name](html)
                spent[name] += time.process_time() - start
        for name, seconds in spent.items():
            milliseconds[name].append(seconds * 1000 / len(pages))
    scores = {name: score(pages, found) for name, found in texts.items()}
    print(f"{len(pages)} pages, {rounds} rounds")
    for name in extractors:
        own = quality(scores[name])
        change, low, high = difference_interval(scores[name], scores["trafilatura"])
        cost = statistics.median(milliseconds[name])
        line = f"{name:<16} P {own.precision:.4f}  R {own.recall:.4f}  F1 {own.f1:.4f}"
        line += f"  to trafilatura {change:+.4f} ({low:+.4f} to {high:+.4f})  {cost:.2f} ms"
        for peer in ("trafilatura", "resiliparse"):
            if peer in milliseconds and peer != name:
                ratios = [mine / theirs for mine, theirs in zip(milliseconds[name], milliseconds[peer], strict=True)]
                line += f"  x{statistics.median(ratios):.2f} of {peer}"
        print(line)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--half", choices=("tuning", "kept_back"), default="kept_back")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--manuals", type=Path, nargs="+", help="folders of pages in HTML")
    arguments.add_argument("--expected", type=Path, help="folder of pages with what is expected of them")
    options = arguments.parse_args()
    if options.manuals:
        for folder in options.manuals:
            print(folder.name)
            measure(read_manual(folder), options.rounds, headline=True)
        return
    if options.expected:
        measure(read_expected(options.expected), options.rounds)
        return
    pages = read_pages(options.data / "article-extraction")
    measure([page for page in pages if page.for_tuning == (options.half == "tuning")], options.rounds)


if __name__ == "__main__":
    main()
