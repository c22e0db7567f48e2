"""`lmworks data why` and the report where twins went themselves: nobody is said to stay who went."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmworks.build import run_alone
from lmworks.cli.main import app

WORDS = (
    "The council met on Tuesday to talk about the new bridge over the river, and most of those who came were in favour "
    "of it. The engineer said that the old one would have to be closed within a few years, and that a new one could be "
    "built beside it. A farmer asked who would pay for the road, and the mayor said that the county had promised it."
)
POLICY = """
[[steps]]
name = "equal"
duplicates = "exact"

[[steps]]
name = "alike"
duplicates = "near"
similarity = 0.6
"""


def cleaned(folder: Path, policy: str, **notes: str) -> Path:
    """The folder that data.clean makes of notes by a policy."""
    (folder / "notes").mkdir()
    for name, text in notes.items():
        (folder / "notes" / f"{name}.md").write_text(text)
    (folder / "policy.toml").write_text(policy)
    made = [folder / name for name in ("documents", "annotations", "duplicates", "cleaned")]
    run_alone("data.read", made[0], [], [], [f'sources=["{folder / "notes"}"]'])
    run_alone("data.annotate", made[1], made[:1], [], [])
    run_alone("data.duplicates", made[2], made[:2], [], ["near.threshold=0.6"])
    run_alone("data.clean", made[3], made[:3], [], [f"policy={folder / 'policy.toml'}"])
    return made[3]


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Path:
    """`second` has the text of `first`, which a longer one is like; `fourth` is like that one as well."""
    folder = tmp_path_factory.mktemp("chain")
    longer = f"{WORDS} Nobody had anything to add, and the meeting was closed at ten."
    fourth = WORDS.replace("Tuesday", "Friday")
    return cleaned(folder, POLICY, first=WORDS, second=WORDS, third=longer, fourth=fourth)


def told(folder: Path, *arguments: str) -> str:
    """What it prints, its lines as one."""
    found = CliRunner().invoke(app, ["data", "why", *arguments, "--workspace", str(folder)])
    assert found.exit_code == 0, found.output
    return " ".join(found.output.split())


def test_a_twin_that_went_later_is_not_said_to_stay(chain):
    text = told(chain, "second.md")
    end = "notes/first.md, which went later (alike) for the sake of notes/third.md, which stays"
    assert f"dropped by equal: exact: like {end} (similarity 1 to notes/first.md)" in text
    assert f"Its twin, which went itself {end} (exact, similarity 1.000 to notes/first.md)" in text
    assert "first.md, which stays" not in text and "Its twin, which stays" not in text


def test_what_went_by_way_of_another_is_counted_and_listed(chain):
    text = told(chain, "third.md")
    assert "For its sake 3 documents went notes/first.md (alike: near, similarity 0." in text
    assert "notes/second.md (equal: exact, similarity 1.000, for notes/first.md)" in text
    html = (chain / "report.html").read_text("utf-8")
    assert "3 like notes/third.md" in html  # as the report counts them
    assert "For its sake 1 document went notes/second.md (equal: exact, similarity 1.000)" in told(chain, "first.md")


def test_the_report_says_so_too(chain):
    html = " ".join(re.sub(r"<[^>]+>", " ", (chain / "report.html").read_text("utf-8")).split())
    end = "which went later (alike) for the sake of notes/third.md, which stays"
    assert f"like notes/first.md, {end}, with a similarity of 1 to notes/first.md" in html
    assert "notes/first.md stays" not in html and "notes/first.md, which stays" not in html
    assert "notes/first.md went later itself, in the end for the sake of notes/third.md" in html


def test_for_programs_a_twin_says_how_it_went(chain):
    found = CliRunner().invoke(app, ["data", "why", "second.md", "--json", "--workspace", str(chain)])
    (twin,) = json.loads(found.output)["documents"][0]["twins"]
    (then,) = twin["then"]
    assert (twin["twin"], then["step"], then["twin"]) == ("notes/first.md", "alike", "notes/third.md")


def test_why_the_other_one_stayed(chain):
    assert "why that one: longer" in told(chain, "first.md")
    assert "why that one: equal in licence, quality and length: first by name" in told(chain, "second.md")
    assert "why that one" not in told(chain, "third.md")
