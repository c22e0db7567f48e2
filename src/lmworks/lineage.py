"""From an answer or an artefact back to what it was made from, as a tree."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.tree import Tree

from lmworks.artefact import (
    MANIFEST,
    STAGE_FOLDERS,
    Manifest,
    artefact_name,
    hash_json,
    known_artefacts,
    manifests_around,
    read_manifest,
    read_rows,
)
from lmworks.config import unknown
from lmworks.corpus.documents import DOCUMENTS, DocumentStore
from lmworks.corpus.filtering.ledger import origins
from lmworks.corpus.read.stage import read_from
from lmworks.corpus.sources.files import without_password
from lmworks.ground.answer_record import to_answer
from lmworks.monitor.review import ReviewItem
from lmworks.records import Answer, Span
from lmworks.report import shown
from lmworks.versions import promotions
from lmworks.workspace import VERSION, Current, read_current, read_interaction


def trace(workspace: Path | None, target: str) -> Tree:
    """The tree of an answer (by id) or a stage (by name) of a workspace, or of any artefact (by folder), whose parents
    are looked for in the workspace and next to it.

    Of what a model made alone, it is the model and its prompt. Raises FileNotFoundError that names what there is when
    the target is none of these.
    """
    if (Path(target) / MANIFEST).is_file():
        folder = Path(target).resolve()
        artefacts, warnings = _known(workspace, folder)
        return _with_warnings(_artefact_tree(folder, artefacts), warnings)
    if workspace is None:
        raise FileNotFoundError(
            f"{target} is no folder that a stage made (it has no {MANIFEST}), and no system was built in this folder; "
            "name an artefact's folder, or a system's with --workspace"
        )
    interaction = None
    if re.fullmatch(r"((chat)?cmpl-|resp_)?[0-9a-f]{16}(-\d+)?", target):
        interaction = read_interaction(workspace, target)
        if interaction.confidence is None:
            # The hashes of a completion that a model made alone, as far as the log has them.
            tree = Tree(f"[bold]{interaction.operation} {interaction.id}[/bold] by {shown(interaction.route)}")
            tree.add(shown(interaction.error) or "no documents took part")
            for name, digest in {"prompt": interaction.prompt, **interaction.lineage}.items():
                if digest:
                    tree.add(f"{shown(name)} [dim]{digest[:12]}[/dim]")
            return tree
    current = read_current(workspace)
    artefacts, warnings = _known(workspace)
    if target in current.stages:
        return _with_warnings(_artefact_tree(workspace / current.stages[target], artefacts), warnings)
    if interaction is not None:
        return _with_warnings(_answer_tree(workspace, current, to_answer(interaction), artefacts), warnings)
    raise FileNotFoundError(
        f"{unknown('answer, stage or artefact', target, list(current.stages))} (or an answer's id); "
        "for a document use `lmworks data why`"
    )


def _known(workspace: Path | None, folder: Path | None = None) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The artefacts around `folder` and those of the workspace; then what lies where their documents were read from."""
    around = [] if folder is None else list(manifests_around(folder))
    inside = [] if workspace is None else list(workspace.glob(f"{STAGE_FOLDERS}/*/[!.]*/{MANIFEST}"))
    folders, warnings = known_artefacts([*around, *inside])
    waiting = list(folders.values())
    while waiting:
        others, _ = known_artefacts(path for made in read_from(waiting.pop()) for path in manifests_around(made))
        waiting += [path for digest, path in others.items() if digest not in folders]
        folders = others | folders
    return folders, warnings


def _with_warnings(tree: Tree, warnings: Sequence[str]) -> Tree:
    for line in warnings:
        tree.add(f"[yellow]{shown(line)}[/yellow]")
    return tree


def _answer_tree(workspace: Path, current: Current, answer: Answer, artefacts: Mapping[str, Path]) -> Tree:
    tree = Tree(f"[bold]answer {answer.id}[/bold] {shown(answer.question)}")
    tree.add(f"{'abstained' if answer.abstained else 'answered'}, confidence {answer.confidence:.2f}")
    # The documents that the answer was made from, which need not be those of today.
    indexed = [answer.lineage.get(name, "") for name, use in current.uses.items() if use == "retrieve.index"]
    corpus = next((folder for digest in indexed for folder in _parents(artefacts.get(digest), artefacts)), None)
    cited = tree.add("citations" if answer.citations else "no citations")
    for number, citation in enumerate(answer.citations, start=1):
        node = cited.add(f"\\[{number}] {shown(citation.text)}")
        if corpus is None:
            node.add("the documents it was made from are no longer in the workspace")
        else:
            span = citation.evidence
            documents = DocumentStore(corpus)
            node.add(f"span {span.start}-{span.end}, relevance {citation.relevance:.3f}, support {citation.support}")
            document = documents.get(span.document)
            source = node.add(f"document {shown(document.uri)} [dim]text {document.hash[:12]}[/dim]")
            source.add(f"source bytes {document.source_hash[:12]}, {shown(document.media_type)}")
            licence = shown(document.licence or "unknown")
            source.add(f"extractor {document.extractor} {document.extractor_version}, licence {licence}")
            same = "still says so" if document.quote(span) == citation.text else "stands there in other words"
            source.add(f"the text at the span {same}")
            _cleaning_tree(source, span, corpus, artefacts)
    made_by = tree.add("made by")
    for name, digest in answer.lineage.items():
        if digest in artefacts:
            made_by.children.append(_artefact_tree(artefacts[digest], artefacts, deep=False))
        else:
            made_by.add(f"{shown(name)} [dim]{digest[:12]}[/dim]")
    if VERSION in answer.lineage:
        tree.children.append(_version_tree(workspace, answer.lineage[VERSION]))
    return tree


def _version_tree(workspace: Path, version: str) -> Tree:
    """When and by what right a version went live, and the reviews that it learned from."""
    tree = Tree(f"version {version}")
    for promotion in promotions(workspace):
        if promotion.version != version:
            continue
        when = datetime.fromtimestamp(promotion.time, UTC).strftime("%Y-%m-%d %H:%M UTC")
        node = tree.add(f"{promotion.kind} {when} by {shown(promotion.who)}: {shown(promotion.reason)}")
        if promotion.gate is not None:
            node.add(f"gate passed:\n{shown(promotion.gate.text)}")
        if promotion.experiment:
            node.add(f"experiment {shown(promotion.experiment)}")
        path = workspace / promotion.loop / "review" / "reviews.jsonl"
        if promotion.loop and path.is_file():
            reviews = node.add(f"learned from the reviews of {shown(promotion.loop)}")
            for item in read_rows(ReviewItem, path):
                who = ", ".join(item.judgements)
                reviews.add(f"interaction {item.interaction}, by {shown(who)} [dim](drawn by {shown(item.rule)})[/dim]")
    return tree


def _parents(folder: Path | None, artefacts: Mapping[str, Path]) -> Iterator[Path]:
    """The artefacts with documents that one was made from directly, as far as they are known."""
    if folder is not None:
        known = (artefacts.get(digest) for digest in read_manifest(folder).parents.values())
        yield from (parent for parent in known if parent is not None and (parent / DOCUMENTS).is_dir())


def _cleaning_tree(node: Tree, span: Span, folder: Path, artefacts: Mapping[str, Path]) -> None:
    """The place of a cleaned text in the extracted one, and what was changed there."""
    origin = next(origins(folder, f'{span.document}"'), None)
    parents = list(_parents(folder, artefacts))
    if origin is None:
        for parent in parents:
            if span.document in DocumentStore(parent):
                _cleaning_tree(node, span, parent, artefacts)
                break
        return
    branch = node.add(f"cleaned from the text {origin.extracted[:12]} by {len(origin.edits):,} edits")
    stores = (DocumentStore(parent) for parent in parents)
    extracted = next((store.get(origin.extracted) for store in stores if origin.extracted in store), None)
    if extracted is None:
        branch.add("the text as it was extracted is no longer in the workspace")
        return
    start, end = origin.place(extracted.text, span.start, span.end)
    branch.add(f"there at {start}-{end}")
    for edit in origin.edits:
        if start <= edit.start and edit.end <= end:
            before, after = (
                repr(_short(text, 80)) for text in (extracted.text[edit.start : edit.end], edit.replacement)
            )
            branch.add(f"{shown(edit.rule)}: {shown(before)} became {shown(after)}")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _artefact_tree(
    folder: Path, artefacts: Mapping[str, Path], *, deep: bool = True, seen: set[Path] | None = None
) -> Tree:
    """The parents of an artefact and how it was made; a parent that several share, which `seen` holds, once."""
    seen = set() if seen is None else seen
    manifest: Manifest = read_manifest(folder)
    name = artefact_name(folder, manifest)
    head = f"[bold]{shown(name)}[/bold] ({manifest.stage} v{manifest.version}) content {manifest.content_hash[:12]}"
    if folder in seen:
        return Tree(f"{head}, shown above")
    seen.add(folder)
    tree = Tree(head)
    config = _short(without_password(json.dumps(manifest.config, ensure_ascii=False)), 160)
    tree.add(f"made in {manifest.seconds:.1f} s, config {hash_json(manifest.config)[:12]}: {shown(config)}")
    tree.add("libraries " + ", ".join(f"{library} {version}" for library, version in manifest.libraries.items()))
    for role, digest in manifest.models.items():
        tree.add(f"model {role} {digest[:12]}")
    for parent, digest in manifest.parents.items():
        if digest in artefacts and deep:
            tree.children.append(_artefact_tree(artefacts[digest], artefacts, seen=seen))
        else:
            tree.add(f"from {shown(parent)} {digest[:12]}")
    return tree
