"""Chunks: exact spans, complete, in order, inside one section, never longer than the encoder reads."""

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from lmworks.records import Document
from lmworks.retrieve.chunk import Chunk, chunk
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.document_structure import parse

WORDS = st.sampled_from(["word", "Sentence.", "a", "x" * 70, "foo(bar)", "é", ".", "`code`", "--", "\u2028"])
PARAGRAPH = st.lists(WORDS, min_size=1, max_size=40).map(" ".join)
PART = st.one_of(
    PARAGRAPH,
    PARAGRAPH.map(lambda text: f"# {text}"),
    PARAGRAPH.map(lambda text: f"## {text[:20]}"),
    st.lists(PARAGRAPH, max_size=4).map(lambda lines: "```\n" + "\n".join(lines) + "\n```"),
    st.lists(PARAGRAPH, max_size=4).map(lambda lines: "\n".join(f"- {line}" for line in lines)),
    st.just("Shown here:"),
    st.text(max_size=30),
)
TEXTS = st.lists(PART, max_size=8).map("\n\n".join)
CONFIGS = st.builds(
    lambda target, more: ChunkConfig(target, target + more),
    st.integers(8, 60),
    st.integers(0, 30),
)

# Ways to count that a tokenizer may have: by word, by character (parts do not add up: white space counts), and one
# where a whole has more tokens than its parts together.
COUNTERS: dict[str, Callable[[Sequence[str]], list[int]]] = {
    "words": lambda texts: [len(text.split()) for text in texts],
    "characters": lambda texts: [-(-len(text) // 3) for text in texts],
    "more than the parts": lambda texts: [len(text) ** 2 // 300 for text in texts],
}


def make(text: str, extractor: str = "markdown", title: str = "") -> Document:
    return Document(text, "u", "text/plain", extractor, "1", "", title=title)


@given(TEXTS, CONFIGS, st.sampled_from(sorted(COUNTERS)), st.sampled_from(["markdown", "plain"]))
def test_exact_complete_ordered_and_bounded(text: str, config: ChunkConfig, counter: str, extractor: str) -> None:
    count = COUNTERS[counter]
    document = make(text, extractor, title="Title of it")
    chunks = chunk(document, config, count)
    covered = [False] * len(text)
    previous = 0
    for one in chunks:
        start, end = one.span.start, one.span.end
        assert one.span.document == document.hash
        assert one.embed_text.endswith(text[start:end])  # headings go before, nothing else is added
        assert text[start:end].strip()
        assert previous <= start < end
        previous = end
        assert one.tokens == count([one.embed_text])[0]
        assert one.tokens <= config.max_tokens or end - start == 1
        covered[start:end] = [True] * (end - start)
    assert all(seen or character.isspace() for seen, character in zip(covered, text, strict=True))
    assert len({one.id for one in chunks}) == len(chunks)
    stays_in_its_section(document, chunks)


def stays_in_its_section(document: Document, chunks: Sequence[Chunk]) -> None:
    sections = [(s.blocks[0].start, s.blocks[-1].end, s.heading_path) for s in parse(document)]
    for one in chunks:
        assert any(
            start <= one.span.start and one.span.end <= end and path == one.heading_path
            for start, end, path in sections
        )


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_chunks_of_a_section_are_of_even_size() -> None:
    paragraphs = [" ".join(f"w{number}" for number in range(20))] * 11  # 220 words; greedy packing leaves a crumb of 40
    chunks = chunk(make("\n\n".join(paragraphs)), ChunkConfig(target_tokens=60, max_tokens=80), words)
    assert [one.tokens for one in chunks] == [60, 60, 60, 40]
    chunks = chunk(make("\n\n".join(paragraphs[:5])), ChunkConfig(target_tokens=80, max_tokens=90), words)
    assert sorted(one.tokens for one in chunks) == [40, 60]  # not 80 and 20


def test_blocks_stay_whole_and_with_what_introduces_them() -> None:
    text = "Plain words to begin with here.\n\nFor example:\n\n```\na b c d e\n```\n\nWords at the end of it all."
    chunks = chunk(make(text), ChunkConfig(target_tokens=10, max_tokens=12), words)
    assert [text[c.span.start : c.span.end].split("\n")[0] for c in chunks] == [
        "Plain words to begin with here.", "For example:", "Words at the end of it all.",
    ]  # fmt: skip


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    sentences = [f"Sentence {number} has six words." for number in range(12)]
    text = " ".join(sentences)
    chunks = chunk(make(text), ChunkConfig(target_tokens=14, max_tokens=15), words)
    assert len(chunks) > 3
    for one in chunks:
        shown = text[one.span.start : one.span.end]
        assert shown.startswith("Sentence ") and shown.endswith(" words.")


def test_headings_go_before_the_text_and_only_those_above_it() -> None:
    body = "\n\n".join(["word " * 7] * 4)
    text = f"# Guide\n\nintro\n\n## Part\n\n{body}"
    config = ChunkConfig(target_tokens=14, max_tokens=24)
    chunks = chunk(make(text, title="Guide"), config, words)
    assert [one.embed_text.split("\n")[0] for one in chunks] == [
        "# Guide",
        "Guide",
        *["Guide > Part"] * (len(chunks) - 2),
    ]
    assert len(chunks) > 3
    assert chunks[1].heading_path == ("Guide", "Part")
    assert chunks[1].embed_text.startswith("Guide\n## Part\n\nword")


def test_ids_say_what_a_chunk_is() -> None:
    config = ChunkConfig()
    ids = {
        chunk(make(text, title=title), config, words)[0].id
        for text, title in [("a b", ""), ("a c", ""), ("a b", "T"), ("a b ", "")]
    }
    assert len(ids) == 4
    assert chunk(make("a b"), config, words) == chunk(make("a b"), config, words)


def test_the_tokenizer_is_called_a_few_times_only() -> None:
    calls: list[int] = []

    def count(texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        return words(texts)

    chunk(make("\n\n".join(["# H", "word " * 30] * 100)), ChunkConfig(), count)
    assert len(calls) <= 3
