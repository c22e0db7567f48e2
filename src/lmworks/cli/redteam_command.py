"""The verb `redteam`: attack a prompt on a model, without and with defences."""

from pathlib import Path
from typing import Annotated

import typer

from lmworks.artefact import write_json, write_rows
from lmworks.cli.options import WorkspaceOption, resolve_workspace
from lmworks.cli.output import show_sections
from lmworks.config import unknown


def redteam(
    prompt: Annotated[str, typer.Argument(help="A version, as for `lmworks prompt diff`.")],
    model: Annotated[str, typer.Option(help="A model, with @int4, ... for its weights, or URL#NAME of an endpoint.")],
    slots: Annotated[
        list[str] | None, typer.Option("--slot", metavar="NAME=VALUE", help="Slots but the user's.")
    ] = None,
    mutations: Annotated[
        list[str] | None, typer.Option("--mutation", help="May be repeated. Default: as written.")
    ] = None,
    spotlight: Annotated[str, typer.Option(help="Set passages apart as data: delimit, mark or encode.")] = "",
    policy: Annotated[bool, typer.Option("--policy", help="Say in the prompt what is refused.")] = False,
    guards: Annotated[list[str] | None, typer.Option("--guard", help="Withhold answers that a detector hits.")] = None,
    attacks: Annotated[Path | None, typer.Option(help="Attacks to train a classifier on, one a line.")] = None,
    harmless: Annotated[Path | None, typer.Option(help="Harmless texts for it, one a line.")] = None,
    embedder: Annotated[str, typer.Option(help="Embedding model of the classifier.")] = "all-minilm-l6-v2",
    rewrites: Annotated[int, typer.Option(min=0, help="Times that the model rewords an attack that failed.")] = 0,
    probes: Annotated[Path | None, typer.Option(help="Probes instead of those of lmworks, as JSON lines.")] = None,
    cases: Annotated[bool, typer.Option("--cases", help="Keep what succeeds, and ask it again from now on.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Attack a prompt with and without defences; report how often attacks succeed and what the defences cost.

    Example: `lmworks redteam support --model smollm2-135m-instruct --spotlight mark --policy --guard leak`
    """
    from lmworks.cli.prompt_command import open_encoder, read_version, slot_values
    from lmworks.generate.remote_engine import open_engine
    from lmworks.prompt.defences import POLICY, Defences, train_classifier
    from lmworks.prompt.red_team import (
        CASES,
        FINDINGS,
        FOLDER,
        MUTATIONS,
        Target,
        keep_cases,
        kept_cases,
        read_probes,
        red_team,
        safety_section,
    )
    from lmworks.prompt.safety_detectors import DETECTORS

    for name in mutations or ():
        if name not in MUTATIONS:
            raise LookupError(unknown("mutation", name, list(MUTATIONS)))
    for name in guards or ():
        if name not in DETECTORS:
            raise LookupError(unknown("detector", name, list(DETECTORS)))
    if bool(attacks) != bool(harmless):
        raise ValueError("a classifier of injections learns from both: --attacks FILE --harmless FILE")
    wanted, folder = read_version(prompt, workspace), resolve_workspace(workspace) / FOLDER
    asked, values = (*read_probes(probes), *kept_cases(folder.parent)), slot_values(wanted, slots)
    classifier = None
    if attacks and harmless:
        bad, good = (path.read_text("utf-8").splitlines() for path in (attacks, harmless))
        encode = open_encoder(embedder)
        assert encode is not None
        classifier = train_classifier(bad, good, encode)
        (found, all_), (let, none) = classifier.right, classifier.rejected
        typer.echo(f"the classifier hits {found} of {all_} held-out attacks and {none - let} of {none} harmless texts")
    defences = Defences(spotlight, classifier, POLICY if policy else "", tuple(guards or ()))  # type: ignore[arg-type]
    engine, ways = open_engine(model), tuple(mutations or ("as written",))
    runs = {"without defences": red_team(Target(wanted, engine, values=values), asked, ways, rewrites=rewrites)}
    if defences != Defences():
        runs["with defences"] = red_team(Target(wanted, engine, defences, values), asked, ways, rewrites=rewrites)
    section = safety_section(runs)
    show_sections([section])
    write_json(folder / f"{wanted.name}.json", [section])
    hits = [one for found in runs.values() for one in found if one.hit]
    write_rows(folder / f"{wanted.name}{FINDINGS}", hits)
    if cases:
        typer.echo(f"{keep_cases(hits, folder.parent)} attacks more are asked again from now on: {folder / CASES}")
