"""Copied repositories: what a repository is, which is contained in one that stays, and which of its files go."""

import random

import pytest
from duplicate_cases import edited, random_text
from duplicate_corpora import Given, decide, gone, run_duplicates, write_corpus
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.dedup import repositories
from lmworks.corpus.dedup.repositories import Repository, copied_repositories, git_roots, repository_of
from lmworks.records import RejectedRecord

STEP = {"name": "forks", "duplicates": "repositories", "similarity": 0.8, "kinds": ["code"]}
FILES = st.sets(st.integers(1, 9), min_size=1, max_size=8)


@for_each(("uri", "expected"), [
    ("repos/one/src/a.py", "repos/one"), ("repos/one/a.py", "repos/one"), ("repos/a.py", "repos"), ("a.py", "a.py"),
    ("code/deep/below/mine/src/a.py", "code/deep/below/mine"),
    ("code/deep/below/mine/vendor/lib/a.py", "code/deep/below/mine/vendor/lib"),
    ("packed/x.zip/x-main/src/a.py", "packed/x.zip/x-main"), ("packed/x.tar.gz/a.py", "packed/x.tar.gz"),
    ("packed/x.ZIP/one/inner.zip/b.py", "packed/x.ZIP/one"),
])  # fmt: skip
def test_a_repository_is_told_by_where_a_file_was(uri, expected):
    roots = git_roots(
        [RejectedRecord("code/deep/below/mine/.git/", "hidden", 9), RejectedRecord("code/a/.github/", "hidden")]
    )
    roots |= git_roots([RejectedRecord("code/deep/below/mine/vendor/lib/.git/", "hidden", 9)])
    assert repository_of(uri, {}, roots) == expected
    assert repository_of(uri, {"repo_name": "owner/name"}, roots) == "owner/name"


def repository(name: str, files: set[int], licensed: bool = False) -> Repository:
    return Repository(name, frozenset(files), licensed)


@given(st.lists(st.tuples(FILES, st.booleans()), max_size=8), st.integers(1, 9), st.randoms())
def test_copies_are_what_going_through_one_by_one_gives(cases, candidate_limit, generator):
    known = [repository(f"r{number}", files, licence) for number, (files, licence) in enumerate(cases)]
    shuffled = known.copy()
    generator.shuffle(shuffled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repositories, "CANDIDATE_LIMIT", candidate_limit)
        copies = copied_repositories(shuffled, 0.7)
        assert copies == copied_repositories(known, 0.7)
    files = {each.name: each.files for each in known}
    gone = {copy.copy for copy in copies}
    for copy in copies:
        both = files[copy.copy] & files[copy.original]
        assert copy.original not in gone
        assert copy.share == len(both) / len(files[copy.copy]) >= 0.7 and len(both) >= 3
    if candidate_limit >= len(cases):
        staying: list[str] = []
        for each in sorted(known, key=lambda each: (not each.licensed, -len(each.files), each.name)):
            shared = [len(files[each.name] & files[other]) for other in staying]
            if not any(both >= 3 and both / len(files[each.name]) >= 0.7 for both in shared):
                staying.append(each.name)
        assert sorted(staying) == sorted(set(files) - gone)


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """Twelve files of 60 words, one of few characters, and one of none."""
    generator = random.Random(0)
    return {f"src/m{n}.py": random_text(generator, 60) for n in range(12)} | {
        "src/__init__.py": "x = 1",
        "src/e.py": "{}",
    }


def written(tmp_path, repositories, rejected=(), **config):
    corpus = [
        (f"{name}/{path}", Given(text, kind="code", licence=licence))
        for name, (files, licence) in repositories.items()
        for path, text in files.items()
    ]
    write_corpus(tmp_path, corpus, rejected=rejected)
    result = run_duplicates(tmp_path, **config)
    [judged] = decide(tmp_path, STEP).values()
    return result, gone(tmp_path, judged)


def test_of_a_fork_the_files_go_that_the_original_has(tmp_path, sources):
    """One file was changed, one replaced, one added; in the original they were renamed as well."""
    generator = random.Random(1)
    fork = dict(sources)
    fork["src/m0.py"] = edited(generator, sources["src/m0.py"], 1)
    fork["src/m1.py"] = random_text(generator, 60)
    fork["src/new.py"] = random_text(generator, 60)
    original = {path.replace("src/", "lib/"): text for path, text in sources.items()}
    result, dropped = written(tmp_path, {"repos/fork": (fork, ""), "repos/origin": (original, "MIT")})
    assert result.metrics["repositories"] == 2
    stays = {"src/m1.py", "src/new.py"}
    assert {uri: kept for uri, (kept, _) in dropped.items()} == {
        f"repos/fork/{path}": f"repos/origin/{path.replace('src/', 'lib/')}" for path in fork if path not in stays
    }
    assert {value for _, value in dropped.values()} == {11 / 13}  # of those that say anything
