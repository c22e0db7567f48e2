"""Which repository a file of code belongs to, by what is known of where it was found.

In this order: what its own metadata say, as rows of tables of code do; the folder that held a `.git`, which readers
leave out and tell of; the archive it was packed in, with the one folder that archives of repositories begin with; and
else the first parts of its path, source and folder, which fits a source that holds a repository in each folder.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

from lmworks.records import LeftOut

NAMED_BY = ("repository", "repo", "repo_name", "repository_name", "max_stars_repo_name")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
PARTS = 2
_GIT = "/.git/"


def git_roots(left_out: Iterable[LeftOut]) -> frozenset[str]:
    """The folders, as uris, that held the data of Git."""
    return frozenset(item.uri.removesuffix(_GIT) for item in left_out if item.uri.endswith(_GIT))


def repository_of(
    uri: str, metadata: Mapping[str, str] | None = None, roots: Collection[str] = (), parts: int = PARTS
) -> str:
    """The name of the repository of the file with this uri. ValueError for fewer than one part."""
    if parts < 1:
        raise ValueError(f"a repository is named by at least one part of a path, got {parts}")
    if named := next((metadata[name] for name in NAMED_BY if metadata.get(name)), None) if metadata else None:
        return named
    folders = [folder.as_posix() for folder in PurePosixPath(uri).parents][:-1]  # the innermost first
    if root := next((folder for folder in folders if folder in roots), None):
        return root
    for place, folder in reversed(list(enumerate(folders))):  # the outermost archive
        if folder.lower().endswith(ARCHIVES):
            return folders[max(place - 1, 0)]
    return folders[max(len(folders) - parts, 0)] if folders else uri
