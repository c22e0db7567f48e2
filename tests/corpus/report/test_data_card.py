"""The data card: the head that hubs read, the counts of the documents, and text that stays text."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.filtering.filter_policy import Limit, Policy, Step
from lmworks.corpus.report.card import CardFacts, card_markdown, hub_licences, renamed, size_category
from lmworks.corpus.report.queries import Cleaning
from lmworks.records import RejectedRecord

PROSE = "The council met on Tuesday to talk about the new bridge over the river, and most were in favour of it.\n"
QUESTION = "Which of the {0} bridges over the river was built by the {0} grandfather of the mayor of the {0} town?"
STEPS = 'steps=[{name="long", kinds=["text"], limits={words={at_least=30}}}, {name="private", marks={"pii.*"={}}}]'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    (folder / "texts").mkdir()
    rows = [
        {"text": "SPDX-License-Identifier: GPL-3.0-only\n" + PROSE * 3, "license": "mit"},
        {"text": PROSE * 4 + "Write to jane.miller@bakery-miller.com.", "license": "MIT License", "lang": "en"},
        {"text": PROSE, "license": "unknown"},
        {"text": QUESTION.format("first") + PROSE, "license": "CC BY 4.0", "by": "jane.miller@bakery-miller.com"},
    ]
    (folder / "texts" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "texts" / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    questions = [QUESTION.format(word) for word in ("first", "second", "third")]
    (folder / "items.txt").write_text("\n".join([*questions, "Who?"]) + "\n")
    run_alone("data.read", folder / "documents", [], [], [f'sources=["{folder / "texts"}"]'])
    run_alone("data.annotate", folder / "known", [folder / "documents"], [], [f'evaluation=["{folder / "items.txt"}"]'])
    run_alone("data.clean", folder / "cleaned", [folder / "documents", folder / "known"], [], [STEPS])
    return folder


def test_the_card_says_what_the_documents_say(folder):
    """The golden card, but for its hashes: each number was counted by hand."""
    card = (folder / "cleaned" / "data_card.md").read_text("utf-8")
    stay = list(DocumentStore(folder / "cleaned"))
    assert [document.licence for document in stay] == ["MIT AND GPL-3.0-only", "MIT", "CC-BY-4.0"]
    size = sum(len(document.text.encode()) for document in stay)
    rows = [json.loads(line) for line in (folder / "texts" / "rows.jsonl").read_text().splitlines()]
    whole = sum(len(row["text"].encode()) for row in rows)
    licences = "CC-BY-4.0 (1), MIT (1), MIT AND GPL-3.0-only (1)"
    for line in (
        f"3 documents of {size:,} bytes from texts, of 4 documents of {whole:,} bytes that were read",
        f"| texts | text (3) | {licences} | en (3) | unknown (3) | 4 | 3 | {whole:,} | {size:,} |",
        "| no reader for .png | 1 |",
        f"| long | text | words ≥ 30 | 1 | 0 | {len(PROSE)} |",
        "| private | all | pii.\\*: cut | 0 | 1 | 29 |",
        f"| long | words | 1 | {len(PROSE)} |",
        "| private | pii.email | 1 | 1 | 29 | 0 |",
        "| pii.email | 1 | 1 | 1 | 0 |",
        "| metadata | pii.email | 1 | 1 | 0 |",
        "Evaluation items that were looked for: 4. Of them too short or too common to decide: 1. Evaluation items that "
        "were found: 1, in 1 documents, of which 1 stay.",
        "- Evaluation items that cannot be decided, and may be in the texts: 1.",
        "- Files that became no document: 1 (see Source Data).",
    ):
        assert line in card, line
    assert not re.search(r"\d\d:\d\d", card) and str(folder) not in card  # no time of day, nothing of the machine
    for before, line in pairwise(card.splitlines()):
        if before.startswith("|") and line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", before)) == len(re.findall(r"(?<!\\)\|", line))


def test_the_hub_s_own_library_reads_the_head(folder):
    hub = pytest.importorskip("huggingface_hub", reason="the card is read by the hub's library")
    card = (folder / "cleaned" / "data_card.md").read_text("utf-8")
    data = hub.DatasetCard(renamed(card, 'A "name": with\nall & sundry')).data.to_dict()
    assert data == {
        "pretty_name": 'A "name": with all & sundry',
        "license": ["cc-by-4.0", "mit", "other"],
        "license_name": "licence-of-each-document",
        "language": ["en"],
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
        "tags": ["lmworks"],
        "configs": [{"config_name": "default", "data_files": "documents/*.jsonl"}],
    }


def test_text_from_outside_is_shown_and_does_nothing(folder):
    steps = (Step("long", limits={"<b>": Limit(1)}), Step("private", limits={"x": Limit(1)}))
    cleaning = Cleaning(folder / "cleaned", Policy(steps), ())
    hostile = "*bold* [link](javascript:x) `code` $x$ \u202e\x1b | <img src=x>"
    left_out = [
        RejectedRecord("a", hostile, 1),
        *(RejectedRecord(f"b/{n}", f"larger than 20 bytes ({n})") for n in range(39)),
    ]
    card = card_markdown(CardFacts(cleaning, left_out=left_out, versions={"lmworks": hostile}))
    assert "| larger than 20 bytes | 39 |" in card
    body = card.split("\n---\n", 1)[1]
    assert "<img" not in body and "\u202e" not in card and "\x1b" not in card
    markdown = pytest.importorskip("markdown_it")
    page = markdown.MarkdownIt("commonmark").enable("table").render(body)
    assert "*bold* [link](javascript:x)" in page and "&lt;U+202E&gt;" in page and "href" not in page


def test_a_hub_s_licences():
    found = hub_licences(["CC0-1.0", "", "GPL-3.0-or-later", "MIT OR Apache-2.0", "ODC-By-1.0", "MIT", "LicenseRef-x"])
    assert found == ["cc0-1.0", "gpl-3.0", "mit", "odc-by", "other", "unknown"]


@pytest.mark.parametrize(
    ("documents", "category"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**12, "n>1T")]
)
def test_sizes(documents, category):
    assert size_category(documents) == category
