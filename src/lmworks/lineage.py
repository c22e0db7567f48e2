"""From an answer or an artefact back to what it was made from, as a tree."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.tree import Tree

from lmworks.artefact import MANIFEST, Manifest, hash_json, read_manifest
from lmworks.build import Current, read_current
from lmworks.config import unknown
from lmworks.data.store import DocumentStore
from lmworks.ground.interaction import to_answer
from lmworks.records import Answer, Verdict
from lmworks.report import shown
from lmworks.system import read_interaction


def trace(workspace: Path | None, target: str) -> Tree:
    """The tree of an answer (by id) or a stage (by name) of a workspace, or of any artefact (by folder), whose parents
    are looked for in the workspace and beside it.

    Raises FileNotFoundError that names what there is when the target is none of these.
    """
    if (Path(target) / MANIFEST).is_file():
        folder = Path(target).resolve()
        return _artefact_tree(folder, {**_beside(folder), **({} if workspace is None else _by_content_hash(workspace))})
    if workspace is None:
        raise FileNotFoundError(
            f"{target} is no folder that a stage made (it has no {MANIFEST}), and no system was built in this folder; "
            "name an artefact's folder, or a system's with --workspace"
        )
    current = read_current(workspace)
    artefacts = _by_content_hash(workspace)
    if target in current.stages:
        return _artefact_tree(workspace / current.stages[target], artefacts)
    if re.fullmatch("(chatcmpl-)?[0-9a-f]{16}", target):
        return _answer_tree(current, to_answer(read_interaction(workspace, target)), artefacts)
    raise FileNotFoundError(f"{unknown('answer, stage or artefact', target, list(current.stages))} (or an answer's id)")


def _by_content_hash(workspace: Path) -> dict[str, Path]:
    return _hashed(workspace.glob(f"stages/*/[!.]*/{MANIFEST}"))


def _beside(folder: Path) -> dict[str, Path]:
    """What stages that were run alone left where they left this."""
    return _hashed(folder.parent.glob(f"[!.]*/{MANIFEST}"))


def _hashed(manifests: Iterable[Path]) -> dict[str, Path]:
    return {read_manifest(path.parent).content_hash: path.parent for path in manifests}


def _answer_tree(current: Current, answer: Answer, artefacts: Mapping[str, Path]) -> Tree:
    tree = Tree(f"[bold]answer {answer.id}[/bold] {shown(answer.question)}")
    tree.add(f"{'abstained' if answer.abstained else 'answered'}, confidence {answer.confidence:.3f}")
    # The documents that the answer was made from, which need not be those of today.
    read = [answer.lineage.get(name, "") for name, use in current.uses.items() if use == "data.read"]
    documents = DocumentStore(artefacts[read[0]]) if read and read[0] in artefacts else None
    cited = tree.add("citations" if answer.citations else "no citations")
    for number, citation in enumerate(answer.citations, start=1):
        node = cited.add(f"\\[{number}] {shown(citation.text)}")
        if documents is None:
            node.add("the documents it was made from are no longer in the workspace")
        else:
            _citation_tree(node, citation, documents)
    made_by = tree.add("made by")
    for name, digest in answer.lineage.items():
        if digest in artefacts:
            made_by.children.append(_artefact_tree(artefacts[digest], artefacts, deep=False))
        else:
            made_by.add(f"{shown(name)} [dim]{digest[:12]}[/dim]")
    return tree


def _citation_tree(node: Tree, citation: Verdict, documents: DocumentStore) -> None:
    span = citation.evidence
    node.add(f"span {span.start}-{span.end}, relevance {citation.relevance:.3f}, support {citation.support}")
    document = documents.get(span.document)
    source = node.add(f"document {shown(document.uri)} [dim]text {document.hash[:12]}[/dim]")
    source.add(f"source bytes {document.source_hash[:12]}, {shown(document.media_type)}")
    source.add(
        f"extractor {document.extractor} {document.extractor_version}, licence {shown(document.licence or 'unknown')}"
    )
    same = "still says so" if document.quote(span) == citation.text else "stands there in other words"
    source.add(f"the text at the span {same}")


def _artefact_tree(folder: Path, artefacts: Mapping[str, Path], *, deep: bool = True) -> Tree:
    manifest: Manifest = read_manifest(folder)
    name = folder.parent.name if folder.name == manifest.key else folder.name  # in a workspace, or alone
    tree = Tree(
        f"[bold]{shown(name)}[/bold] ({manifest.stage} v{manifest.version}) content {manifest.content_hash[:12]}"
    )
    tree.add(
        f"made in {manifest.seconds:.1f} s, config {hash_json(manifest.config)[:12]}: {shown(_short(manifest.config))}"
    )
    tree.add("libraries " + ", ".join(f"{library} {version}" for library, version in manifest.libraries.items()))
    for role, digest in manifest.models.items():
        tree.add(f"model {role} {digest[:12]}")
    for parent, digest in manifest.parents.items():
        if digest in artefacts and deep:
            tree.children.append(_artefact_tree(artefacts[digest], artefacts))
        else:
            tree.add(f"from {shown(parent)} {digest[:12]}")
    return tree


def _short(config: Mapping[str, object]) -> str:
    text = json.dumps(config, ensure_ascii=False)
    return text if len(text) <= 160 else text[:157] + "..."
