"""Rows of a data set's files: JSON (a list, or an object with "rows" or "data"), JSON lines, CSV or TSV, as they begin.

How a published set names its columns is no code but the table [columns] of its task, as in lm-evaluation-harness: a
column leads to an expression of Jinja over the row as it stands in the file, with the file's name as `file`.

    [columns]
    question = "question.stem or question"
    answer = "'ABCD'.index(answerKey)"
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import ChainableUndefined, TemplateError, Undefined
from jinja2.environment import TemplateExpression
from jinja2.sandbox import SandboxedEnvironment

from lmworks.data.row_formats import parse_json, table_rows
from lmworks.evaluate.generated_items import paired_sentences

Row = Mapping[str, Any]
# Choices in the instructions of LLM-Adapters (Hu et al. 2023): "… question: Q\n\nAnswer1: A Answer2: B …"
_LISTED = re.compile(r"\n\n(?=(?:Answer|Option)1: )")
_WRONG = (TemplateError, ValueError, IndexError, KeyError, TypeError, AttributeError)


@cache
def expression(source: str) -> TemplateExpression:
    """An expression of Jinja in its sandbox. Besides Jinja's filters there are `sub(pattern, replacement)`, that of
    `re`, and `places`, the numbers of the true values of a list. TemplateError for one that is none."""
    environment = SandboxedEnvironment(undefined=ChainableUndefined)
    environment.filters["sub"] = lambda text, pattern, replacement: re.sub(pattern, replacement, str(text))
    environment.filters["places"] = lambda values: [number for number, value in enumerate(values) if value]
    return environment.compile_expression(source, undefined_to_none=False)


def table(
    name: str, text: str, header: Sequence[str] = (), columns: Mapping[str, str] | None = None, keep: str = ""
) -> Iterator[Row]:
    """The rows of a file's text. A `header` names the columns of a CSV without one; with `columns`, a row has what
    these expressions make of it, else what the file has; those for which `keep`, an expression, is false are left out.
    ValueError, with the row and the remedy, for one of which a column cannot be made."""
    for number, raw in enumerate(_raw_rows(name, text, header), start=1):
        if not isinstance(raw, dict):
            raise ValueError(f"{name}, row {number}: a row has named columns, got {raw!r:.80}: mend it")
        given = {"file": name, **raw, **_unpacked(raw)}
        if keep and not expression(keep)(given):
            continue
        if not columns:
            yield given
            continue
        row: dict[str, Any] = {"file": name}
        for column, source in columns.items():
            try:
                value = row[column] = expression(source)(given)
                cells = value if isinstance(value, list) else [value]
                problem = "it is not there" * any(isinstance(cell, Undefined) for cell in cells)
            except _WRONG as error:
                problem = str(error)
            if problem:
                has = f"no {column} can be made of its columns {', '.join(raw)} ({problem})"
                raise ValueError(f"{name}, row {number}: {has}: mend the row, or [columns] of the task")
        yield row


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


def _unpacked(row: Row) -> Row:
    """Question, choices and the number of the right one of an instruction of LLM-Adapters; nothing of another row."""
    if not isinstance(row.get("instruction"), str) or not _LISTED.search(row["instruction"]):
        return {}
    asked, listed = _LISTED.split(row["instruction"], maxsplit=1)
    question = re.split(r"question: |sentence: ", asked, maxsplit=1)[-1].strip()
    choices = re.split(r"(?:Answer|Option)\d: ", re.split(r"\s*Answer format: ", listed)[0])[1:]
    answer = int(re.sub(r"\D", "", str(row.get("answer"))) or 0) - 1
    return {"question": question, "choices": [choice.strip() for choice in choices], "answer": answer}


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


def paired_rows(name: str, text: str) -> Iterator[Row]:
    """The sentences of `generated_items.paired_sentences`; no file is read."""
    for item in paired_sentences():
        yield {"choices": [*item.choices], "answer": 0, "occupation": item.cluster, **item.fields}
