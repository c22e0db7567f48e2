"""What `--docs` makes of a recipe: nothing in it is about other documents any more."""

from kit.tables import for_each
from lmworks.cli.build_command import build_recipe, checked_recipe
from lmworks.recipe import load


@for_each(
    ("recipe", "kind"),
    [
        ("assistant", "Grounded answers"),
        ("documents", "Grounded answers"),
        ("scratch", "A language model trained from scratch, and its grounded answers,"),
    ],
)
def test_a_recipe_over_a_folder_tells_of_that_folder(recipe, kind, tmp_path):
    books = tmp_path / "old books"
    books.mkdir()
    checked, workspace = checked_recipe(recipe, books, None, None)
    assert checked.description == f"{kind} over the documents in old books"
    assert checked.question == "" and checked.name == workspace.name == "old books"
    assert checked.stages[0].config.sources == (str(books),)
    assert checked_recipe(recipe, books, ['question="Who?"'], None)[0].question == "Who?"


def test_a_build_says_on_the_terminal_which_files_it_left_out(tmp_path, capsys):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "leave.md").write_text("# Leave\n\nThere are twenty-eight days of it.\n")
    (docs / "prices.csv").write_text("item,price\ntea,2\n")
    unread = ("plan.xlsx", "talk.pptx", "sums.ipynb", "map.png")
    for name in unread:
        (docs / name).write_bytes(b"\x89PNG\r\n\x1a\n\x00\x01")
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\n[stages.texts]\nuse = "corpus.read"\nsources = ["docs"]\n')
    for show_report in (False, True):  # `up` and `build`; the second time from the cache
        build_recipe(load(recipe), tmp_path / "workspace", show_report=show_report, begins_a_system=False)
        said = capsys.readouterr()
        said = (said.out + said.err).replace("\n", " ")
        assert "5 left out" in said and all(f"docs/{name}" in said for name in (*unread, "prices.csv"))
        assert "--set texts.columns.text" in said and "CSV" in said and "rejected.jsonl" in said
