"""Questions that lean on earlier ones are read with their words, and no other question is touched."""

from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.ground.follow_up import ADDED, standalone
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.query_expansion import read_queries
from lmworks.retrieve.search import ranked


@for_each(
    ("earlier", "question", "added"),
    [
        (["What does functools.lru_cache do?"], "and how do I clear it?", ["functools.lru_cache"]),
        (["How do I read a JSON file?"], "what about writing one?", ["read", "JSON", "file"]),
        (["What is a LoRA adapter?", "Can I merge it?"], "and why?", ["lora", "adapter", "merge"]),
        (["What is a thread?"], "Can you give an example?", ["thread"]),
        (["What does zip do?"], "And what does itertools.chain do?", []),
        (["What is a thread?"], "Is there a function that copies a directory tree?", []),
        (["What is a thread?"], "How many days of leave does an employee have?", []),
        ([], "and how do I clear it?", []),
    ],
)
def test_what_leans_gets_the_words_that_it_lacks(earlier, question, added):
    found = standalone(question, earlier)
    assert found.startswith(question)
    assert sorted(found[len(question) :].split()) == sorted(added)


@given(st.text(max_size=300), st.lists(st.text(max_size=300), max_size=6))
def test_no_question_grows_beyond_what_an_encoder_reads(question, earlier):
    found = standalone(question, earlier)
    assert found.startswith(question) and len(found) <= max(len(question), 2 * ADDED)


def test_the_search_finds_what_a_follow_up_means(finder):
    def first(question: str) -> str:
        query = read_queries(finder.index, [question], finder.encoder)
        return finder.index.chunks(ranked(finder.index, query, SearchConfig(k=1)).keys)[0].uri

    for name in ("cat", "dog"):
        assert first(standalone("and for how many hours a day?", [f"Does a {name} sleep?"])) == f"{name}s"
