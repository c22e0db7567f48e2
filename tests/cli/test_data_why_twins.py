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


def test_a_duplicate_that_went_later_is_not_said_to_stay(chain):
    text = told(chain, "second.md")
    assert "dropped by equal: exact 1, threshold 0.8, duplicate of notes/first.md" in text
    assert "(equal: exact, similarity 1.000): notes/first.md which was dropped itself by alike: near 0." in text
    assert ", duplicate of notes/third.md" in text and "which stays" not in text


def test_what_went_by_way_of_another_is_counted_and_listed(chain):
    text = told(chain, "third.md")
    assert "Dropped for its sake: 3 notes/first.md: alike: near 0." in text
    assert "notes/second.md: equal: exact 1.000, duplicate of notes/first.md" in text
    page = " ".join(re.sub(r"<[^>]+>", " ", (chain / "report.html").read_text("utf-8")).split())
    assert re.search(r"notes/third\.md 3 0\.\d+ alike, equal", page)  # as the report counts them


def test_for_programs_a_duplicate_says_how_it_went(chain):
    found = CliRunner().invoke(app, ["data", "why", "second.md", "--json", "--workspace", str(chain)])
    (kept,) = json.loads(found.output)["documents"][0]["kept_duplicates"]
    (then,) = kept["then"]
    assert (kept["document"], then["step"], then["twin"]) == ("notes/first.md", "alike", "notes/third.md")
    (_, _, size, name), (_, _, other_size, other_name) = kept["order"]
    assert (size, name, other_name) == (other_size, "notes/second.md", "notes/first.md")  # equal, but for the name
