"""Where each run comes from: data, stores, machine, versions, commands, and its whole recipe."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from tinyvit_kd.reports.content import Plain, Report, ReportedRun
from tinyvit_kd.reports.markup import Content, Html, element, facts, folded, joined
from tinyvit_kd.reports.recipes_section import recipe_text
from tinyvit_kd.reports.results_section import run_name
from tinyvit_kd.reports.states import ENDED, run_state
from tinyvit_kd.reports.words import is_number, moment, number
from tinyvit_kd.runtime.wording import binary_size, counted, duration

NOT_RECORDED = "not recorded (the run has not finished, or is of a version that kept no results.json)"


def runs_section(report: Report) -> Html:
    """One part for each run."""
    return joined(*(_run(number_, run) for number_, run in enumerate(report.runs)))


def _run(place: int, run: ReportedRun) -> Html:
    recipe, results = run.recipe, run.results
    rows: list[tuple[str, Content]] = [
        ("Folder", element("code", run.folder.where)),
        ("State", run_state(run.status)),
        (
            "What ended it" if run.status.state in ENDED else "Doing",
            "" if run.has_finished else run.status.message or "",
        ),
        ("Student", _student(recipe, results)),
        ("Trained on", _data(results) or _path_of(recipe, "shards")),
        ("Scored on", _path_of(recipe.get("eval") or {}, "shards")),
        ("Store", "; ".join(_stores(recipe, results))),
        ("Schedule", _schedule(recipe)),
        *surroundings(results),
        ("Notes", "; ".join(run.status.notes)),
    ]
    parts = [element("h3", run_name(place, run)), facts(rows), _commands(run)]
    if run.last_lines:
        parts.append(element("h4", "Last lines of its log"))
        parts.append(element("pre", "\n".join(run.last_lines)))
    if recipe:
        parts.append(folded("Recipe", element("pre", recipe_text(run)), long=True))
    return element("section", *parts)


def surroundings(results: Plain) -> list[tuple[str, Content]]:
    """When, for how long, where and with what: of ``results.json``."""
    if not results:
        return [("Machine, versions", NOT_RECORDED)]
    begun, ended = moment(results.get("started")), moment(results.get("finished"))
    seconds, attempts = results.get("seconds"), results.get("attempts")
    in_all = f" in {counted(attempts, 'attempt')}" if isinstance(attempts, int) and attempts != 1 else ""
    return [
        ("Dates", f"{begun} to {ended}" if begun and ended else f"begun {begun}" if begun else ""),
        ("Took", f"{duration(seconds)}{in_all}" if is_number(seconds) else ""),
        ("Processes", number(results["world_size"]) if is_number(results.get("world_size")) else ""),
        ("Machine", machine_words(results.get("machine"))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in _mapping(results.get("versions")).items())),
    ]


def machine_words(machine: Any) -> str:
    """A machine as ``results.json`` has it, in a line; what is not known there is left out."""
    found = _mapping(machine)
    hosts = found.get("hosts")
    gpus = (
        [str(_mapping(gpu).get("name", gpu)) for gpu in found.get("gpus") or []]
        if isinstance(found.get("gpus"), list)
        else []
    )
    memory = found.get("memory")
    parts = [
        ", ".join(map(str, hosts)) if isinstance(hosts, list) else str(found.get("host", "")),
        str(found.get("cpu", "")),
        f"{counted(found['cores'], 'core')}" if isinstance(found.get("cores"), int) else "",
        f"{binary_size(memory)} of memory" if is_number(memory) else "",
        ", ".join(f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)),
        f"on {found['device']}" if found.get("device") else "",
        str(found.get("system", "")),
    ]
    return "; ".join(part for part in parts if part)


def _commands(run: ReportedRun) -> Html:
    """What was typed or, where that was not kept, what makes the run again."""
    typed = command_lines(run.results)
    if typed:
        return joined(element("h4", "Commands"), element("pre", "\n".join(typed)))
    stage = run.recipe.get("stage")
    if stage not in ("pretrain", "finetune"):
        return Html("")
    again = shlex.join(["tinyvit-kd", str(stage), f"{run.folder.path}/recipe.yaml", "--set", "output=ANOTHER_FOLDER"])
    said = "Its commands were not recorded; this trains it again, from the recipe that it kept:"
    return joined(element("h4", "Command"), element("p", said, class_="quiet"), element("pre", again))


def command_lines(results: Plain) -> list[str]:
    """The commands that ``results.json`` keeps, each as it could be typed; one that was given again is listed once."""
    commands = results.get("commands")
    if not isinstance(commands, list):
        return []
    lines = [shlex.join(map(str, each)) if isinstance(each, list) else str(each) for each in commands]
    return list(dict.fromkeys(lines))


def _student(recipe: Plain, results: Plain) -> str:
    student = _mapping(recipe.get("student"))
    name = (
        student.get("name") or student.get("call") or ("TinyViT of its own widths" if student.get("tiny_vit") else "")
    )
    parameters = _mapping(results.get("student")).get("parameters")
    begun = student.get("init_from")
    parts = [
        str(name),
        f"{parameters / 1e6:,.2f} M parameters" if is_number(parameters) else "",
        f"starts from {begun}" if begun else "",
    ]
    return ", ".join(part for part in parts if part)


def _data(results: Plain) -> str:
    shards = _mapping(_mapping(results.get("data")).get("shards"))
    if not shards:
        return ""
    samples = shards.get("samples")
    split = f" ({shards['split']})" if shards.get("split") else ""
    counted_ = f", {counted(samples, 'sample')}" if isinstance(samples, int) else ""
    return f"{shards.get('path') or shards.get('name') or ''}{split}{counted_}, hash {shards.get('hash', 'not known')}"


def _path_of(recipe: Any, section: str) -> str:
    found = _mapping(_mapping(recipe).get(section))
    return f"{found['path']} ({found.get('split') or 'all'})" if found.get("path") else ""


def _stores(recipe: Plain, results: Plain) -> list[str]:
    kept = results.get("stores")
    if isinstance(kept, list) and kept:
        return [f"{_mapping(each).get('path', '')}, hash {_mapping(each).get('hash', 'not known')}" for each in kept]
    return store_paths(recipe)


def store_paths(recipe: Plain) -> list[str]:
    """The paths of the stores that a recipe of stage two learns from."""
    if recipe.get("stage") != "pretrain":
        return []
    store = _mapping(recipe.get("store"))
    others = store.get("others")
    paths = [store.get("path"), *(_mapping(each).get("path") for each in (others if isinstance(others, list) else []))]
    return [path for path in paths if isinstance(path, str)]


def _schedule(recipe: Plain) -> str:
    schedule = _mapping(recipe.get("schedule"))
    parts = [
        f"{number(schedule['epochs'])} epochs" if is_number(schedule.get("epochs")) else "",
        f"batches of {number(schedule['global_batch_size'])}" if is_number(schedule.get("global_batch_size")) else "",
        f"seed {schedule['seed']}" if "seed" in schedule else "",
    ]
    return ", ".join(part for part in parts if part)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
