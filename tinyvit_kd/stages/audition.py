"""``audition``: several teachers on the same few samples of a dump, before one of them is paid for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from tinyvit_kd.analysis.auditions.agreement import agreement
from tinyvit_kd.analysis.auditions.answers import Answers, Figures, ask
from tinyvit_kd.analysis.auditions.audition_text import AuditionResult, Costs, TeacherResult, describe
from tinyvit_kd.analysis.auditions.brief_student import brief_training, score_student, work_folder, write_chosen
from tinyvit_kd.analysis.auditions.first_views import ChosenSamples, FirstViews, Int64, choose_samples
from tinyvit_kd.config.load import read_yaml, validate
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.config.recipes import DumpConfig, PretrainConfig
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.errors import CheckpointError, ConfigError, NonFiniteLossError, StorageError, StoreError, TinyVitKdError
from tinyvit_kd.models.teacher import Teacher, build_teacher
from tinyvit_kd.planning.hours import NAMES
from tinyvit_kd.planning.measuring.whole_dump import made_views_rate, whole_dump
from tinyvit_kd.runs.known_labels import known_labels
from tinyvit_kd.runs.new_store import check_topk, teacher_classes
from tinyvit_kd.runs.open_shards import open_shards
from tinyvit_kd.runs.restricted_classes import restricted
from tinyvit_kd.runs.second_teacher import adopt_views
from tinyvit_kd.runs.store_agreement import check_views
from tinyvit_kd.runs.teacher_report import teacher_lines
from tinyvit_kd.runtime.compiling import compiler_of
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.foreign_errors import shortage_behind
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain

STEPS = 200
# What ends the audition of one teacher, not that of the others.
_OF_ONE = (ConfigError, CheckpointError, StorageError, StoreError, NonFiniteLossError)


@dataclass(frozen=True)
class Student:
    """A student that is briefly trained from each teacher.

    Attributes:
        steps: at least.
        output: folder for shards, stores and runs; None: they are removed at the end.
    """

    config: PretrainConfig
    steps: int
    output: Path | None


@dataclass(frozen=True)
class _Tried:
    """A teacher that has answered; its weights are gone."""

    result: TeacherResult
    config: TeacherConfig
    answers: Answers
    labels: Int64
    classes: ClassList | None


def audition(
    recipe: Path,
    config: DumpConfig,
    teachers: Sequence[Path],
    samples: int,
    seed: int,
    student: Student | None,
    job: Job,
) -> tuple[str, dict[str, Any], bool]:
    """Ask teachers about the first views of some samples; reckon what their whole dumps take here.

    Args:
        recipe: the path of the dump's recipe, whose shards, views, K, V, encoding and machine settings hold for all.
        config: that recipe.
        teachers: files with a teacher each: recipes of dumps, whose other sections are left out, or teacher sections
            alone. Empty: the recipe's own teacher.
        samples: how many are asked about.
        seed: of the choice of samples.
        student: None: none is trained.

    Returns:
        tables for people, the same as plain data, and whether all that was asked for is there.

    Raises:
        ConfigError: none of the teachers could answer; it names each one's mistake.
        ShardError, TransformError, StoreError: the shards or views of the recipe cannot be used.
    """
    if config.views_from is None:
        check_views(config.views, job)
    else:
        config, _ = adopt_views(config, config.views_from, job)
    shards = open_shards(config.shards, job, config.runtime)
    pairs_seed = config.store.seed if config.views.mixes else None
    chosen = choose_samples(shards.lengths.tolist(), samples, pairs_seed, seed)
    views = FirstViews(config, shards, chosen, job.device)
    if chosen.rows < samples:
        say(job, f"the shards that are looked at have {chosen.rows:,} samples; all of them are taken")
    with saying("measuring how fast views are made"):
        made_views = made_views_rate(config, shards)
    result = AuditionResult(
        recipe=str(recipe),
        samples=chosen.rows,
        holes=0,
        shards=len(chosen.shards),
        held_out=0,
        whole=shards.total,
        views=config.store.views,
        topk=config.store.topk,
        made_views=made_views,
        place=_place(job),
    )
    tried = list(_try_all(config, _sections(recipe, config, teachers), views, made_views, result, job))
    if not tried:
        raise _none_of(result.teachers)
    result.holes = int((~tried[0].answers.valid).sum())
    _compare(tried, result)
    if student is not None:
        _train_students(config, tried, views, student, result, job)
    return describe(result), result.as_dict(), not any(each.failed for each in result.teachers)


def _sections(
    recipe: Path, config: DumpConfig, teachers: Sequence[Path]
) -> Iterator[tuple[str, Path, Callable[[], TeacherConfig]]]:
    """Files with names for people, the files' own, with a number where two have the same; and how to read each."""
    if not teachers:  # what the command line sets is in the recipe
        yield recipe.stem, recipe, lambda: config.teacher
        return
    known: set[str] = set()
    for path in teachers:
        name, number = path.stem, 1
        while name in known:
            number += 1
            name = f"{path.stem}-{number}"
        known.add(name)
        yield name, path, partial(teacher_section, path)


def _try_all(
    config: DumpConfig,
    teachers: Iterable[tuple[str, Path, Callable[[], TeacherConfig]]],
    views: FirstViews,
    made_views: float,
    result: AuditionResult,
    job: Job,
) -> Iterator[_Tried]:
    """Ask one teacher after the other; those that fail are noted with their mistake."""
    for name, path, section in teachers:
        teacher = TeacherResult(name, str(path))
        result.teachers.append(teacher)
        tried: _Tried | None = None
        with _failures_noted(teacher, "problem", job):
            tried = _try_one(config, teacher, section(), views, made_views, job)
        if tried is not None:
            yield tried


@contextmanager
def _failures_noted(teacher: TeacherResult, attribute: str, job: Job) -> Iterator[None]:
    """Note what is wrong with one teacher, or with its student, in place of raising it."""
    try:
        yield
    except _OF_ONE as error:
        found: TinyVitKdError = error
    except (RuntimeError, MemoryError) as error:
        shortage = shortage_behind(error)
        if shortage is None:
            raise
        found = shortage
    else:
        return
    setattr(teacher, attribute, str(found))
    say(job, f"{teacher.name}: {found}")


def _try_one(
    config: DumpConfig, result: TeacherResult, asked: TeacherConfig, views: FirstViews, made_views: float, job: Job
) -> _Tried:
    own = config.model_copy(update={"teacher": asked})
    runtime = config.runtime
    with saying(f"building the teacher {result.name}"):
        teacher = build_teacher(
            asked, job.device, runtime.precision, runtime.channels_last, compiler_of(runtime, job), restricted
        )
    check_topk(own, teacher)
    classes = teacher_classes(own, teacher)
    known = known_labels(views.shards, classes, teacher.facts.num_classes)
    for line in teacher_lines(asked, teacher, config.views.size, classes.name if classes else None, known):
        say(job, f"{result.name}: {line}")
    with saying(f"asking {result.name} about {counted(views.chosen.rows, 'view')}"):
        answers = ask(teacher, views, config.store.topk)
    labels = views.labels(known)
    with saying(f"measuring {result.name}"):
        result.costs = _costs(own, teacher, views, made_views, job)
    result.network, result.num_classes = teacher.facts.name, teacher.facts.num_classes
    result.class_list = classes.name if classes else None
    result.labels_unknown, result.labels_note = known.unknown, known.note
    result.figures = Figures.of(answers, labels)
    return _Tried(result, asked, answers, labels, classes)


def teacher_section(path: Path) -> TeacherConfig:
    """The teacher of a file: of a dump's recipe, or a teacher section alone.

    Raises:
        ConfigError: the file cannot be read, or there is a mistake in the section.
    """
    tree = read_yaml(path)
    if "teacher" not in tree and "stage" in tree:
        raise ConfigError(
            "there is no teacher in this recipe",
            where=str(path),
            found=f"stage: {tree['stage']}",
            expected="a recipe for dump-logits, or the fields of its teacher section (tinyvit-kd recipe dump-logits)",
        )
    section = tree.get("teacher", tree)
    if not isinstance(section, dict):
        raise ConfigError(
            "the teacher is not a section",
            where=f"{path}: teacher",
            found=f"{section!r:.80}",
            expected="keys and values, such as checkpoint: FILE",
        )
    return validate(TeacherConfig, section, str(path))


def _costs(config: DumpConfig, teacher: Teacher, views: FirstViews, made_views: float, job: Job) -> Costs:
    whole = whole_dump(config, teacher, views.shards, made_views, job)
    hours, store = whole.hours, whole.store
    assert hours.total is not None, "all rates were measured"
    assert hours.limit is not None, "there is something to do"
    return Costs(whole.views_per_second, hours.total, NAMES[hours.limit], store.record_bytes, store.bytes)


def _place(job: Job) -> str:
    return torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else "no GPU"


def _compare(tried: Sequence[_Tried], result: AuditionResult) -> None:
    for one, other in combinations(tried, 2):
        sizes = one.result.num_classes, other.result.num_classes
        same = agreement(one.answers, other.answers, one.classes, other.classes, sizes)
        result.agreement[one.result.name, other.result.name] = same


def _none_of(teachers: Sequence[TeacherResult]) -> ConfigError:
    return ConfigError(
        "none of the teachers could be tried",
        where="--teachers",
        found="\n  - " + "\n  - ".join(f"{each.name}: {each.problem}" for each in teachers),
        fix="correct these, and run again",
    )


def _train_students(
    config: DumpConfig, tried: Sequence[_Tried], views: FirstViews, student: Student, result: AuditionResult, job: Job
) -> None:
    """Train a student from each teacher, on the samples that are not held out, and score it on those that are."""
    chosen: ChosenSamples = views.chosen
    result.held_out = int(chosen.held_out_rows.sum())
    with work_folder(student.output) as folder:
        count = write_chosen(views.shards, chosen, folder)
        for each in tried:
            with _failures_noted(each.result, "student_problem", job):
                training = brief_training(
                    config, student.config, each.config, each.result.name, count, student.steps, folder
                )
                say(job, f"{each.result.name}: a student of {training.steps:,} steps on {counted(count, 'sample')}")
                dump_logits(training.dump, job)
                pretrain(training.pretrain, job)
                each.result.student = score_student(training, views, each.answers, each.labels)
