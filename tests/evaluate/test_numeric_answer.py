"""The number that a solution gives, as lm-evaluation-harness extracts it."""

from kit.tables import for_each
from lmworks.evaluate.dataset_readers import table
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.registry import metric
from lmworks.evaluate.task import read_texts
from published_data import DATA, needs_data

CASES = [  # response, reference, then: strict, flexible, value
    ("So 3 + 4 = 7.\n#### 7", "x\n#### 7", 1, 1, 1),
    ("#### 7\n\nQuestion: 8", "7", 1, 0, 0),
    ("The answer is $1,234.", "#### 1,234", 0, 1, 1),
    ("#### 1,234", "1234", 1, 1, 1),
    ("#### 7.00", "7", 0, 0, 1),
    ("#### $7", "7", 0, 1, 1),
    ("It is -7", "-7", 0, 1, 1),
    ("It is 7. So there...", "7", 0, 0, 1),
    ("seven", "7", 0, 0, 0),
    ("", "7", 0, 0, 0),
]


@for_each(("response", "reference", "strict", "flexible", "value"), CASES)
def test_the_number_of_a_solution(response, reference, strict, flexible, value):
    names = ("gsm8k-strict", "gsm8k-flexible", "last-number")
    found = [metric(name).measure([Item("1", references=(reference,))], [Response(response)])[0] for name in names]
    assert found == [strict, flexible, value]


def test_verbatim_forgives_spaces_at_the_ends_alone():
    item = Item("1", references=("north, south", "n,s"))
    responses = [Response(" n,s\n"), Response("N,s"), Response("n, s"), Response("north, south")]
    assert metric("verbatim").measure([item] * 4, responses) == [1, 0, 0, 1]


@needs_data
def test_the_solutions_of_gsm8k_are_right():
    ((name, text),) = read_texts(["gsm8k/train.jsonl"], DATA)
    answers = [row["answer"] for row in table(name, text)]
    items = [Item(str(number), references=(answer,)) for number, answer in enumerate(answers)]
    responses = [Response(answer) for answer in answers]
    for name in ("gsm8k-strict", "gsm8k-flexible", "last-number"):
        assert metric(name).measure(items, responses) == [1.0] * 7473
