"""IFEval's checks against the verdicts of the authors' program, as lm-evaluation-harness 0.4.13 has it."""

import pytest

from kit.tables import for_each
from lmworks.evaluate.dataset_readers import table
from lmworks.evaluate.instruction_checks import CHECKS, capital_words, followed, sentences, word_count
from lmworks.evaluate.metric import Item, Response, score
from lmworks.evaluate.registry import metric
from lmworks.evaluate.task import read_texts
from lmworks.records import Scored
from published_data import DATA, needs_data

CASES = [  # instruction, arguments, a text that follows it, one that does not
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "Dogs and CATS.", "A cat."),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "at least"}, "Cat, concatenate", "cat"),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "less than"}, "cat", "cat cat"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", "A Cat."),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 2, "let_relation": "at least"}, "Qq", "q"),
    ("language:response_language", {"language": "de"},
     "Das ist ein ganz gewöhnlicher deutscher Satz.", "An English sentence, as it is."),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"},
     "One. Two? Three!", "Dr. Who met Mr. Smith. Yes."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n***\nb"),
    ("length_constraints:number_words", {"num_words": 4, "relation": "less than"}, "well-known cat", "it's a cat"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Well"},
     "a\n\n'Well, b", "a\n\nWell-b"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a [b]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "a\np. s. b", "a\nPS b"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "a P.P.S b", "a P.S. b"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b", "* a\n** b"),
    ("detectable_format:constrained_response", {}, "So: My answer is no.", "My answer is no"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and * *"),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2},
     "SECTION 1 a SECTION 2", "Section 1 a Section 2"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<a>>", "<<>>"),
    ("combination:two_responses", {}, "a ****** b", "a ****** a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say IT. It.", "I say it."),
    ("startend:end_checker", {"end_phrase": "The End."}, 'So "the end."', "The end. Or not"),
    ("startend:quotation", {}, ' "a" ', '"'),
    ("change_case:capital_word_frequency", {"capital_frequency": 3, "capital_relation": "at least"},
     "I DON'T", "I Don't-KNOW"),
    ("change_case:english_capital", {}, "THIS IS AN ENGLISH SENTENCE, AND NOTHING ELSE AT ALL.", "This is one."),
    ("change_case:english_lowercase", {},
     "this is an english sentence, and nothing else.", "dies ist ein deutscher satz, nichts anderes."),
    ("punctuation:no_comma", {}, "a b", "a, b"),
]  # fmt: skip


@for_each(("instruction", "arguments", "right", "wrong"), CASES)
def test_an_instruction_is_followed(instruction, arguments, right, wrong):
    assert followed(instruction, arguments, [right]) and not followed(instruction, arguments, [wrong])


def test_all_twenty_five_instructions_have_a_case():
    assert {case[0] for case in CASES} == set(CHECKS) and len(CHECKS) == 25


def test_a_zero_among_the_arguments_counts():
    """lm-evaluation-harness drops it, and draws a number."""
    assert followed("length_constraints:number_words", {"num_words": 0, "relation": "at least"}, ["a"])
    assert not followed("length_constraints:number_words", {"num_words": 0, "relation": "less than"}, ["a"])


def test_a_response_is_judged_strictly_and_loosely():
    item = Item("1", fields={"instructions": ["punctuation:no_comma", "startend:quotation"], "arguments": [{}, {}]})
    responses = [Response('Sure, here:\n*"a"*\nBye'), Response('"a"'), Response(" ")]
    values = {
        name: metric(f"ifeval-{name}").measure([item] * 3, responses)
        for name in ("prompt-strict", "prompt-loose", "instruction-strict", "instruction-loose")
    }
    assert values["prompt-strict"] == [0, 1, 0] and values["prompt-loose"] == [1, 1, 0]
    assert values["instruction-strict"] == [(0, 2), (2, 2), (0, 2)]
    assert values["instruction-loose"] == [(2, 2), (2, 2), (0, 2)]
    found = score(metric("ifeval-instruction-strict"), [Item("a"), Item("b"), Item("c")], values["instruction-strict"])
    assert isinstance(found, Scored) and found.value == pytest.approx(2 / 6)


@for_each(
    ("text", "count"),
    [  # Punkt's English model as NLTK 3.10 runs it
        ("", 0),
        ("Mr. Smith lives in the U.S. and works for Foo Inc. He is 3.5 years old.", 2),
        ("1. First item\n2. Second item", 3),
        ('He said "Stop!" Then he left. (Really.)', 3),
        ("Wait... what? Yes!!! No.", 3),
        ("no end", 1),
        ("End of **bold.** Next", 2),
    ],
)
def test_sentences_are_those_of_punkt(text, count):
    assert len(sentences(text)) == count


@needs_data
def test_words_are_those_of_nltk():
    nltk = pytest.importorskip("nltk")
    ((name, text),) = read_texts(["ifeval/input_data.jsonl"], DATA)
    prompts = [row["prompt"] for row in table(name, text)]
    words = nltk.tokenize.RegexpTokenizer(r"\w+")
    assert [word_count(each) for each in prompts] == [len(words.tokenize(each)) for each in prompts]
    capital = [sum(map(str.isupper, nltk.tokenize.NLTKWordTokenizer().tokenize(each))) for each in prompts]
    assert sum(capital_words(each) == count for each, count in zip(prompts, capital, strict=True)) >= 538
