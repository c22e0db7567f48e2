"""From an answer or an artefact back to what it was made from, as a tree."""

import json
from collections.abc import Mapping
from pathlib import Path

from rich.markup import escape
from rich.tree import Tree

from lmworks.artefact import MANIFEST, Manifest, hash_json, read_manifest
from lmworks.build import Current, read_current
from lmworks.config import unknown
from lmworks.records import Answer, Verdict
from lmworks.system import ANSWERS, artefact_of, read_answer


def trace(workspace: Path, target: str) -> Tree:
    """The tree of an answer (by id), a stage (by name) or an artefact (by folder).

    Raises FileNotFoundError that names what there is when the target is none of these.
    """
    current = read_current(workspace)
    artefacts = _by_content_hash(workspace)
    if (workspace / ANSWERS / f"{target}.json").is_file():
        return _answer_tree(workspace, current, read_answer(workspace, target), artefacts)
    folder = workspace / current.stages[target] if target in current.stages else Path(target)
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(
            f"{unknown('answer, stage or artefact', target, list(current.stages))} (or an answer's id)"
        )
    return _artefact_tree(folder, artefacts)


def _by_content_hash(workspace: Path) -> dict[str, Path]:
    folders = [path.parent for path in workspace.glob(f"stages/*/[!.]*/{MANIFEST}")]
    return {read_manifest(folder).content_hash: folder for folder in folders}


def _answer_tree(workspace: Path, current: Current, answer: Answer, artefacts: Mapping[str, Path]) -> Tree:
    tree = Tree(f"[bold]answer {answer.id}[/bold] {escape(answer.question)}")
    tree.add(f"{'abstained' if answer.abstained else 'answered'}, confidence {answer.confidence:.3f}")
    from lmworks.data.store import DocumentStore

    documents = DocumentStore(artefact_of(workspace, current, "data.read"))
    cited = tree.add("citations" if answer.citations else "no citations")
    for number, citation in enumerate(answer.citations, start=1):
        _citation_tree(cited.add(f"\\[{number}] {escape(citation.text)}"), citation, documents)
    made_by = tree.add("made by")
    for name, digest in answer.lineage.items():
        if digest in artefacts:
            made_by.children.append(_artefact_tree(artefacts[digest], artefacts, deep=False))
        else:
            made_by.add(f"{escape(name)} [dim]{digest[:12]}[/dim]")
    return tree


def _citation_tree(node: Tree, citation: Verdict, documents: "object") -> None:
    span = citation.evidence
    node.add(f"span {span.start}-{span.end}, relevance {citation.relevance:.3f}, support {citation.support}")
    document = documents.get(span.document)  # type: ignore[attr-defined]
    source = node.add(f"document {escape(document.uri)} [dim]text {document.hash[:12]}[/dim]")
    source.add(f"source bytes {document.source_hash[:12]}, {document.media_type}")
    source.add(f"extractor {document.extractor} {document.extractor_version}, licence {document.licence or 'unknown'}")
    shown = "still says so" if document.quote(span) == citation.text else "stands there in other words"
    source.add(f"the text at the span {shown}")


def _artefact_tree(folder: Path, artefacts: Mapping[str, Path], *, deep: bool = True) -> Tree:
    manifest: Manifest = read_manifest(folder)
    name = folder.parent.name
    tree = Tree(
        f"[bold]{escape(name)}[/bold] ({manifest.stage} v{manifest.version}) content {manifest.content_hash[:12]}"
    )
    tree.add(
        f"made in {manifest.seconds:.1f} s, config {hash_json(manifest.config)[:12]}: {escape(_short(manifest.config))}"
    )
    tree.add("libraries " + ", ".join(f"{library} {version}" for library, version in manifest.libraries.items()))
    for role, digest in manifest.models.items():
        tree.add(f"model {role} {digest[:12]}")
    for parent, digest in manifest.parents.items():
        if digest in artefacts and deep:
            tree.children.append(_artefact_tree(artefacts[digest], artefacts))
        else:
            tree.add(f"from {escape(parent)} {digest[:12]}")
    return tree


def _short(config: Mapping[str, object]) -> str:
    text = json.dumps(config, ensure_ascii=False)
    return text if len(text) <= 160 else text[:157] + "..."
