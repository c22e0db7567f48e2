"""The pages /prompts, versions with diffs, labels and results; /tests, grids of prompts; /safety, attacks on them.

A label is moved here as by `lmworks prompt label`: with a reason, and where it needs one, after a passed test.
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.artefact import hash_json, read_json
from lmworks.config import from_mapping
from lmworks.evaluate.release.promotion import PRODUCTION
from lmworks.prompt.grid_report import grid_sections
from lmworks.prompt.prompt_file import prompt_diff
from lmworks.prompt.prompt_grid import RUNS, Cell, Grid, all_cells, move_label, version_deltas
from lmworks.prompt.prompt_store import PROMPTS, PromptStore
from lmworks.prompt.red_team import FOLDER, keep_cases, open_findings
from lmworks.report import Section
from lmworks.serve.asgi import KEY
from lmworks.serve.pages.evaluation_page import StageReport, stage_views
from lmworks.serve.pages.forms import bounded, read_form
from lmworks.serve.pages.page_templates import error_page, page, segment
from lmworks.serve.service import Service


def router(service: Service) -> APIRouter:
    routes, store = APIRouter(include_in_schema=False), PromptStore(service.workspace / PROMPTS)
    tests = service.workspace / RUNS

    @routes.get("/prompts")
    async def prompts() -> Response:
        rows = [(name, store.versions(name), store.labels(name)) for name in store.names()]
        return page(service, "prompts.html", active="prompts", rows=rows)

    @routes.get("/prompts/{name}")
    async def prompt(name: str, old: str = "", new: str = "") -> Response:
        try:
            view = await asyncio.to_thread(prompt_view, store, tests, name, old, new)
        except LookupError as error:
            return error_page(service, 404, "No such prompt", str(error), "/prompts", "Prompts")
        return page(service, "prompt.html", active="prompts", **view)

    @routes.post("/prompts/{name}")
    async def act(name: str, request: Request) -> Response:
        """`action` is "move", of `label` to `version`, or "rollback" of `label`."""
        try:
            fields = await read_form(request)
            reason, who = bounded(fields.get("reason", "").strip()), request.scope.get(KEY, "")
            label = fields.get("label", PRODUCTION)
            if fields.get("action") == "rollback":
                await asyncio.to_thread(store.rollback, name, label, reason, who=who)
            else:
                version = fields.get("version", "")
                await asyncio.to_thread(move_label, store, tests, name, label, version, reason, who=who)
        except LookupError as error:
            return error_page(service, 404, "No such prompt", str(error), "/prompts", "Prompts")
        except ValueError as error:
            return error_page(service, 400, "This cannot be done", str(error), f"/prompts/{segment(name)}", "back")
        return RedirectResponse(f"/prompts/{segment(name)}", 303)

    @routes.get("/tests")
    async def all_tests() -> Response:
        tasks = sorted({path.parent.parent.name for path in tests.glob("*/*/cell.json")})
        empty = ("No prompt was tested", "Prompts are tested on the cases of a task.", "lmworks prompt test")
        return _reports(service, "tests", "Tests", [], empty, [(task, f"/tests/{segment(task)}") for task in tasks])

    @routes.get("/tests/{task}")
    async def test(task: str) -> Response:
        if not (cells := all_cells(tests, task)) or "*" in task:
            return error_page(service, 404, "No such test", f"No prompt was tested on {task[:80]}.", "/tests", "Tests")
        sections = await asyncio.to_thread(lambda: grid_sections(newest_grid(tests, cells, store), drawn=False))
        return _reports(service, "tests", task, [StageReport(task, "prompt test", cells[0].time, 0.0, sections)])

    @routes.get("/safety")
    async def safety() -> Response:
        paths = sorted((service.workspace / FOLDER).glob("*.json"), key=lambda path: -path.stat().st_mtime)
        reports = [
            StageReport(path.stem, "redteam", path.stat().st_mtime, 0.0,
                        tuple(from_mapping(Section, row, [str(path)]) for row in read_json(path)))
            for path in paths
        ]  # fmt: skip
        links = [("Attacks that succeeded", "/safety/findings")] if reports else []
        empty = ("No prompt was attacked", "Attacks show what a prompt gives away.", "lmworks redteam")
        return _reports(service, "safety", "Safety", reports, empty, links)

    @routes.get("/safety/findings")
    async def findings(at: int = 0) -> Response:
        """One after the other, what succeeded."""
        attacks = await asyncio.to_thread(open_findings, service.workspace)
        at = min(max(at, 0), max(len(attacks) - 1, 0))
        attack = attacks[at] if attacks else None
        key = hash_json(attack.probe) if attack else ""
        return page(service, "findings.html", active="prompts", attack=attack, at=at, count=len(attacks), key=key)

    @routes.post("/safety/findings")
    async def keep(request: Request) -> Response:
        """Ask the attack `finding` again from now on."""
        fields = await read_form(request)
        attacks = await asyncio.to_thread(open_findings, service.workspace)
        chosen = [attack for attack in attacks if hash_json(attack.probe) == fields.get("finding")]
        await asyncio.to_thread(keep_cases, chosen, service.workspace)
        return RedirectResponse(f"/safety/findings?at={segment(fields.get('at', ''))}", 303)

    return routes


def _reports(
    service: Service,
    active: str,
    title: str,
    reports: list[StageReport[Section]],
    empty: tuple[str, str, str] | None = None,
    links: list[tuple[str, str]] = [],  # noqa: B006 - read only
) -> Response:
    """A page of reports; figures are left to the report of the command line."""
    bare = [replace(report, sections=tuple(replace(s, figures=()) for s in report.sections)) for report in reports]
    views = stage_views(bare)
    return page(service, "reports.html", active="prompts", title=title, stages=views, empty=empty, links=links)


def prompt_view(store: PromptStore, tests: Path, name: str, old: str = "", new: str = "") -> dict[str, Any]:
    """Versions, labels and moves of a prompt, and the diff of two versions with what tests say of it; by default the
    newest against the one in production, or its parent."""
    versions, labels = store.versions(name), store.labels(name)
    new_hash = store.hash_of(name, new)
    parent = next((version.parent for version in versions if version.hash == new_hash), "")
    before = labels.get(PRODUCTION, "")
    old_hash = store.hash_of(name, old) if old else before if before not in ("", new_hash) else parent
    diff, deltas = {}, []
    if old_hash:
        both = store.read(name, old_hash), store.read(name, new_hash)
        diff, deltas = prompt_diff(*both), version_deltas(tests, *both)
    return {
        "name": name, "versions": versions[::-1], "labels": labels, "old": old_hash, "new": new_hash, "diff": diff,
        "deltas": deltas, "shown": store.read(name, new_hash), "moves": [*store.history(name)][::-1],
    }  # fmt: skip


def newest_grid(folder: Path, cells: list[Cell], store: PromptStore) -> Grid:
    """The runs on the newest set of cases of a task, what is in production first."""
    live = {store.labels(name).get(PRODUCTION) for name in {cell.prompt_name for cell in cells}}
    named = [
        replace(cell, variant=f"{cell.prompt_name}:{cell.prompt[:6]}{'' if cell.enforced else ', free'}")
        for cell in cells
        if cell.cases == cells[0].cases
    ]
    return Grid(
        folder, tuple(sorted(named, key=lambda cell: (cell.prompt not in live or not cell.enforced, cell.time)))
    )
