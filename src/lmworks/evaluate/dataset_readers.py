"""Named readers from the texts of published data sets to rows: mappings of plain columns.

`READERS["arc"]("ARC-Challenge-Test", text)` takes the name of a file and its text, which is JSON (a list, or an object
with "rows" or "data"), JSON lines, CSV or TSV, as its beginning says. A multiple choice has `question`, `choices` and
`answer`, the number of the right one from 0.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lmworks.data.row_formats import parse_json, table_rows
from lmworks.evaluate.generated_items import paired_sentences

Row = Mapping[str, Any]
Reader = Callable[[str, str], Iterator[Row]]
LETTERS = "ABCD"


def _raw_rows(name: str, text: str, header: Sequence[str]) -> Iterator[Any]:
    """Objects of JSON, or cells of CSV by their columns: those of its first row unless a `header` names them."""
    if re.match(r"\s*(\[|\{\s*\n)", text):
        content = parse_json(text, name)
        content = content if isinstance(content, list) else content.get("rows", content.get("data"))
        if not isinstance(content, list):
            raise ValueError(f'{name}: expected a list of rows, or an object with "rows" or "data"')
        yield from content
    elif re.match(r"\s*\{", text):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield parse_json(line, f"{name}, line {number}")
    else:
        dialect = "excel-tab" if not header and "\t" in text.partition("\n")[0] else "excel"
        yield from (row for _, row in table_rows(io.StringIO(text, newline=""), name, dialect, header))


def _reader(form: Callable[[Row], Row] = dict, header: Sequence[str] = ()) -> Reader:
    """Reads rows of any format, with the name of their `file`, and gives each its form. A ValueError names the row."""

    def read(name: str, text: str) -> Iterator[Row]:
        for number, row in enumerate(_raw_rows(name, text, header), start=1):
            try:
                yield form({"file": name, **row})
            except KeyError as error:
                has = f"there is no column {error}; its columns are {', '.join(row)}"
                raise ValueError(f"{name}, row {number}: {has}: add it, or name the reader of this form") from error
            except (ValueError, IndexError, TypeError, AttributeError, re.error) as error:
                raise ValueError(f"{name}, row {number}: not of its reader's form ({error}): mend it") from error

    return read


def babi(name: str, text: str) -> Iterator[Row]:
    """bAbI: numbered sentences, the numbers beginning again with each story; a question has its answer behind a tab (or
    a bar, in some copies), and stands behind all sentences of its story so far (Weston et al. 2015)."""
    story, passage = 0, ""
    for line, content in enumerate(text.splitlines(), start=1):
        number, _, rest = content.partition(" ")
        if not number.isdecimal():
            raise ValueError(f"{name}, line {line}: a line of a story begins with its number: mend or drop it")
        if number == "1":
            story, passage = story + 1, ""
        sentence, *answer = (part.strip() for part in re.split(r"[\t|]", rest))
        if answer:
            columns = {"task": name.split("_")[0], "story": f"{name}:{story}"}
            yield {"passage": passage, "question": sentence, "answer": answer[0], **columns}
        else:
            passage += sentence + "\n"


def _chosen(question: str, choices: list[str], answer: int, **more: Any) -> Row:
    if not 0 <= answer < len(choices):
        raise ValueError(f"answer {answer + 1} of {len(choices)} choices")
    return {"question": question, "choices": choices, "answer": answer, **more}


def _instruction(row: Row) -> Row:
    """LLM-Adapters (Hu et al. 2023): "… question: Q\\n\\nAnswer1: A Answer2: B …", answered by "answer2"."""
    text, answer = str(row["instruction"]), str(row["answer"])
    asked, listed = re.split(r"\n\n(?=(?:Answer|Option)1: )", text, maxsplit=1)
    question = re.split(r"question: |sentence: ", asked, maxsplit=1)[1]
    listed = re.split(r"\s*Answer format: ", listed)[0]
    choices = [each.strip() for each in re.split(r"(?:Answer|Option)\d: ", listed)[1:]]
    return _chosen(question.strip(), choices, int(re.sub(r"\D", "", answer)) - 1)


def _lettered(row: Row) -> Row:
    """ARC and OpenBookQA, of LLM-Adapters, of their authors, and of the hub: choices with labels."""
    if "instruction" in row:
        return _instruction(row)
    asked = row["question"] if "question_stem" not in row else row["question_stem"]
    if isinstance(asked, Mapping):
        texts, labels = zip(*((each["text"], each["label"]) for each in asked["choices"]), strict=True)
        asked = asked["stem"]
    else:
        texts, labels = row["choices"]["text"], row["choices"]["label"]
    return _chosen(asked, list(texts), list(labels).index(str(row["answerKey"]).strip()))


def _mmlu(row: Row) -> Row:
    """CSV without a header and the subject in the name of the file, or the hub's rows; `topic` is it in words."""
    choices = list(row["choices"]) if "choices" in row else [row[letter] for letter in LETTERS]
    answer = row["answer"] if "choices" in row else LETTERS.index(row["answer"].strip())
    subject = row["subject"] if "subject" in row else re.sub(r"_(test|dev|val)$", "", row["file"])
    columns = {**dict(zip(LETTERS, choices, strict=True)), "subject": subject, "topic": subject.replace("_", " ")}
    return _chosen(row["question"].strip(), choices, answer, **columns)


def _boolq(row: Row) -> Row:
    """BoolQ of its authors and of SuperGLUE; the rows of LLM-Adapters have no passages."""
    value = str(row["label"] if "label" in row else row["answer"]).strip().lower()
    answer = ["false", "no", "0", "true", "yes", "1"].index(value) // 3
    return _chosen(row["question"], ["no", "yes"], answer, passage=row["passage"])


def _winogrande(row: Row) -> Row:
    """`before` and `after` are the sentence up to its blank, and what is behind."""
    made = _instruction(row) if "instruction" in row else None
    made = made or _chosen(row["sentence"], [row["option1"], row["option2"]], int(row["answer"]) - 1)
    before, blank, after = made["question"].partition("_")
    if not blank:
        raise ValueError("its sentence has no blank, which is written _")
    return {**made, "before": before, "after": after.strip()}


def _social_iqa(row: Row) -> Row:
    if "instruction" in row:
        return _instruction(row)
    right = str(row["label"] if "label" in row else row["correct"]).strip()
    answer = int(right) - 1 if right.isdecimal() else LETTERS.index(right)
    return _chosen(f"{row['context']} {row['question']}", [row[f"answer{letter}"] for letter in "ABC"], answer)


def _truthfulqa(row: Row) -> Row:
    """`mc1_choices` of which one is true, `mc2_choices` of which several may be; `_answers` are the true ones' numbers.
    A table of correct and incorrect answers makes them as its authors do: each ends with a stop (Lin et al. 2022)."""
    if "mc1_targets" in row:
        made: dict[str, Any] = {"question": row["question"]}
        labelled = {name: _labels(row[f"{name}_targets"]) for name in ("mc1", "mc2")}
    else:
        made = {"question": row["Question"].strip()}
        wrong = [(text, 0) for text in _listed(row["Incorrect Answers"])]
        right = {"mc1": _listed(row["Best Answer"]), "mc2": _listed(row["Correct Answers"])}
        labelled = {name: [*((text, 1) for text in texts), *wrong] for name, texts in right.items()}
    for name, pairs in labelled.items():
        made[f"{name}_choices"] = [text for text, _ in pairs]
        made[f"{name}_answers"] = [number for number, (_, label) in enumerate(pairs) if label]
    return made


def _labels(targets: Mapping[str, Any]) -> list[tuple[str, int]]:
    return list(zip(targets["choices"], targets["labels"], strict=True)) if "labels" in targets else [*targets.items()]


def _listed(text: str) -> list[str]:
    return [f"{each.strip().removesuffix('.')}." for each in text.split(";") if each.strip()]


def _gsm8k(row: Row) -> Row:
    if "#### " not in row["answer"]:
        raise ValueError('its answer does not end with "#### " and a number')
    return {name: row[name] for name in ("question", "answer")}


def _svamp(row: Row) -> Row:
    """A whole number is written without its decimal point, an equation without its outer brackets."""
    equation = str(row["Equation"]).removeprefix("( ").removesuffix(" )")
    return {
        "id": str(row["ID"]),
        "question": f"{str(row['Body']).rstrip(' .')}. {row['Question']}",
        "equation": re.sub(r"\.0\b", "", equation),
        "answer": re.sub(r"\.0$", "", str(row["Answer"])),
    }


def _ifeval(row: Row) -> Row:
    """The hub writes an absent argument as null; a 0 is one that is there. Each instruction is tried on no text."""
    from lmworks.evaluate.instruction_checks import CHECKS

    checks = [{key: value for key, value in each.items() if value is not None} for each in row["kwargs"]]
    if len(checks) != len(row["instruction_id_list"]):
        raise ValueError(f"{len(row['instruction_id_list'])} instructions and {len(checks)} kwargs")
    instructions = list(row["instruction_id_list"])
    for instruction, arguments in zip(instructions, checks, strict=True):
        if instruction not in CHECKS:
            raise ValueError(f"no check is called {instruction!r}")
        CHECKS[instruction]("", **arguments)
    return {"id": str(row["key"]), "prompt": row["prompt"], "instructions": instructions, "arguments": checks}


def _humaneval(row: Row) -> Row:
    return {"id": row["task_id"]} | {name: row[name] for name in ("prompt", "test", "entry_point")}


def _passages(row: Row) -> Row:
    """A question with its answers, and passages as `{"title", "text"}`."""
    return {"question": row["question"], "answers": row["answers"], "passages": [one["text"] for one in row["ctxs"]]}


def _reply_tree(row: Row) -> Row:
    """The first prompt of a conversation tree of OpenAssistant, and people's replies to it."""
    replies = [one["text"] for one in row["prompt"]["replies"] if not one["synthetic"]]
    return {"prompt": row["prompt"]["text"], "replies": replies[:4]}


def reply_trees(name: str, text: str) -> Iterator[Row]:
    """The trees in which people replied."""
    return (row for row in _reader(_reply_tree)(name, text) if row["replies"])


def _preferred_reply(row: Row) -> Row:
    """hh-rlhf (Bai et al. 2022): two replies to a conversation, the one that people preferred first."""
    chosen, rejected = (row[name].rpartition("\n\nAssistant:") for name in ("chosen", "rejected"))
    replies = [chosen[2].strip(), rejected[2].strip()] if chosen[0] == rejected[0] else [""]
    return {"prompt": "".join(chosen[:2]).strip(), "choices": replies, "answer": 0}


def preferred_replies(name: str, text: str) -> Iterator[Row]:
    """The rows whose two replies are to one conversation, and not empty."""
    return (row for row in _reader(_preferred_reply)(name, text) if all(row["choices"]))


def paired_rows(name: str, text: str) -> Iterator[Row]:
    """The sentences of `generated_items.paired_sentences`; no file is read."""
    for item in paired_sentences():
        yield {"choices": [*item.choices], "answer": 0, "occupation": item.cluster, **item.fields}


READERS: Mapping[str, Reader] = {
    **dict.fromkeys(("csv", "json", "jsonl"), _reader()),
    "mmlu": _reader(_mmlu, ("question", *LETTERS, "answer")),
    "arc": _reader(_lettered),
    "boolq": _reader(_boolq),
    "winogrande": _reader(_winogrande),
    "openbookqa": _reader(_lettered),
    "social-iqa": _reader(_social_iqa),
    "truthfulqa": _reader(_truthfulqa),
    "gsm8k": _reader(_gsm8k),
    "svamp": _reader(_svamp),
    "babi": babi,
    "ifeval": _reader(_ifeval),
    "humaneval": _reader(_humaneval),
    "passages": _reader(_passages),
    "reply-trees": reply_trees,
    "preferred-replies": preferred_replies,
    "paired-sentences": paired_rows,
}
