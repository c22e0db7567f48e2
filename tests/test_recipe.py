"""A recipe is checked whole before any work, and an error is one message with the line and what is allowed."""

from pathlib import Path

import pytest

import toy_stages
from kit.tables import for_each
from lmworks import recipe as recipes
from lmworks.recipe import RecipeError, find, later_stages, load, packaged


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "STAGES", toy_stages.STAGES)

    def write(text: str = toy_stages.RECIPE):
        path = tmp_path / "toy.toml"
        path.write_text(text)
        return path

    return write


def test_the_graph_gives_the_order_not_the_file(toy):
    recipe = load(toy())
    assert [stage.name for stage in recipe.stages] == ["values", "sum"]
    assert recipe.stages[1].inputs == ("values",)
    assert recipe.question == "How much?"


def test_of_stages_that_could_run_next_the_first_in_the_file_does(toy):
    """So the file decides what is made before something long, which another order would make for nothing."""
    sums = "".join(f'\n[stages.{name}]\nuse = "toy.total"\nfrom = ["{of}"]\n' for name, of in ("ab", "bc", "dc"))
    text = 'name = "toy"\n' + sums + '\n[stages.c]\nuse = "toy.numbers"\nfile = "values.txt"\n'
    assert [stage.name for stage in load(toy(text)).stages] == ["c", "b", "a", "d"]


def test_scratch_makes_all_that_is_quick_before_it_trains_and_indexes():
    order = [stage.name for stage in load(find("scratch")).stages]
    assert {*order[:5]} == {"documents", "vocabulary", "tokens", "held_out", "dialogues"}


@for_each(
    ("name", "later"), [("assistant", {"evaluation"}), ("documents", {"evaluation"}), ("scratch", {"evaluation"}),
                        ("clean", set())]
)  # fmt: skip
def test_only_what_neither_an_answer_nor_a_model_needs_can_be_made_later(name, later):
    assert later_stages(load(find(name))) == later


def test_a_model_is_left_out_by_null():
    whole, without = (load(find("assistant"), given).models for given in ((), ["models.reader=null"]))
    assert {**whole} == {**without, "reader": whole["reader"]}


def test_overrides_change_config_values(toy):
    recipe = load(toy(), ["values.factor=3", "sum.offset=2"])
    assert recipe.stages[0].config.factor == 3
    assert recipe.stages[1].config.offset == 2
    # As the recipe's own tables and the messages write it.
    assert load(toy(), ["stages.values.factor=4"]).stages[0].config.factor == 4


def test_files_of_overrides_are_relative_to_the_working_folder(toy, monkeypatch, tmp_path):
    recipe, folder = toy(), tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "mine.txt").touch()
    monkeypatch.chdir(folder)
    assert load(recipe, ["values.file=mine.txt"]).stages[0].config.file == folder / "mine.txt"
    assert load(recipe, ["values.file=values.txt"]).stages[0].config.file == Path("values.txt")


@for_each(
    ("old", "new", "line", "problem"),
    [
        (
            'file = "values.txt"',
            'fill = "values.txt"',
            10,
            'unknown key "fill"; did you mean "file"? allowed: factor, file',
        ),
        ('use = "toy.total"', 'use = "toy.totl"', 5, 'did you mean "toy.total"? allowed: toy.numbers, toy.total'),
        ('from = ["values"]', 'from = ["value"]', 6, 'unknown stage "value"; did you mean "values"?'),
        ('from = ["values"]', 'from = "values"', 6, "expected a list of stage names"),
        ('file = "values.txt"', 'file = "values.txt"\nfactor = "x"', 11, "expected a whole number, got 'x'"),
        ('use = "toy.numbers"', "", 8, "missing; allowed: toy.numbers, toy.total"),
        ('question = "How much?"', 'questoin = "How much?"', 2, 'did you mean "question"?'),
        ('file = "values.txt"', 'file = "values.txt"\nfrom = ["sum"]', 6, "the stages read from each other"),
        ('file = "values.txt"', "file = ", 10, "Invalid value"),
    ],
)
def test_an_error_names_the_line_and_what_is_allowed(toy, old, new, line, problem):
    path = toy(toy_stages.RECIPE.replace(old, new))
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert problem in str(caught.value)
    assert f"line {line}" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@for_each(
    ("override", "problem"),
    [
        ("value.factor=3", 'unknown stage "value"; did you mean "values"?'),
        ("values.factr=3", 'did you mean "factor"?'),
        ("values.factor=x", "expected a whole number, got 'x'"),
        ("values.factor", "expected NAME.key=value"),
    ],
)
def test_an_override_is_blamed_for_its_own_error(toy, override, problem):
    with pytest.raises(RecipeError) as caught:
        load(toy(), [override])
    assert problem in str(caught.value)
    assert override in str(caught.value)


@for_each(
    ("override", "meant"),
    [
        ("kind=book", '"documents.kind"'),
        ("columns.text=body", '"documents.columns.text"'),
        ("execution.workers=1", '"documents.execution.workers" or "annotations.execution.workers" or "dupl'),
    ],
)
def test_a_setting_without_its_stage_is_told_with_the_stages_that_have_it(override, meant):
    with pytest.raises(RecipeError) as caught:
        load(find("clean"), [override])
    assert f'unknown stage "{override.split("=")[0].split(".")[0]}"; did you mean {meant}' in str(caught.value)
    if " or " not in meant:
        name = meant.strip('"')
        load(find("clean"), [f"{name}={override.split('=')[1]}"])  # as the message says


def test_a_recipe_may_hold_the_older_name_of_a_stage(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(find("clean").read_text("utf-8").replace('"corpus.filter"', '"data.clean"'), "utf-8")
    assert "corpus.filter" in [stage.use for stage in load(path, ["documents.kind=book"]).stages]


def test_a_role_that_a_stage_needs_must_have_a_model(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(find("documents").read_text("utf-8").replace('embedder = "all-minilm-l6-v2"', ""), "utf-8")
    with pytest.raises(RecipeError, match=r'models\.embedder.*"index"'):
        load(path)


def test_every_packaged_recipe_loads():
    assert set(packaged()) >= {"assistant", "documents"}
    for path in packaged().values():
        assert load(path).stages


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(RecipeError, match='did you mean "assistant"'):
        find("assistent")
    with pytest.raises(RecipeError, match=r"there is no recipe file nowhere\.toml"):
        find("nowhere.toml")
