"""Artefacts that lie about in folders, found by their content: what a manifest names as parents."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lmworks.artefact import read_manifest


@dataclass(frozen=True, slots=True)
class KnownArtefacts:
    """`folders`: content hash → folder. `unreadable`: manifests of something else, or damaged ones, which are left
    out."""

    folders: dict[str, Path]
    unreadable: tuple[Path, ...] = ()

    @property
    def told(self) -> tuple[str, ...]:
        """A line for each manifest that was left out."""
        return tuple(f"{path} is no manifest that can be read: it was left out" for path in self.unreadable)


def known_artefacts(manifests: Iterable[Path]) -> KnownArtefacts:
    """What these manifests describe. One that cannot be read stops nobody who asks for another."""
    folders: dict[str, Path] = {}
    unreadable = []
    for path in manifests:
        try:
            folders[read_manifest(path.parent).content_hash] = path.parent
        except (OSError, ValueError, TypeError, AttributeError):  # not there, not JSON, or JSON of another shape
            unreadable.append(path)
    return KnownArtefacts(folders, tuple(unreadable))
