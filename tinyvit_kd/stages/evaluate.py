"""``evaluate``: accuracy of a model file on labelled shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from tinyvit_kd.config.recipes import EvalConfig, EvaluateConfig
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.data.labels.class_list import load_class_list
from tinyvit_kd.models.modelfile import ModelCard, raw_model_file
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.models.student import open_model
from tinyvit_kd.runs.scoring import build_scorer
from tinyvit_kd.runtime.compiling import compiler_of
from tinyvit_kd.runtime.device import move_to_device, resolve_precision
from tinyvit_kd.runtime.device_report import say_device
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.training.evaluation_metrics import as_raw
from tinyvit_kd.views.selfcheck import check_renderers


def evaluate(config: EvaluateConfig, job: Job) -> dict[str, float]:
    """Score one model file on labelled shards; of a run folder with an average of the weights, both.

    Returns:
        what ``Scorer`` returns: accuracies in percent, and the numbers of samples scored and left out; and
        ``class_names_compared``, 0 where class i of the labels was taken for class i of the model. Scores of the
        weights themselves, beside their average, begin with ``raw_``.

    Raises:
        CheckpointError: the model file is missing or damaged, or does not say which network it holds.
        ConfigError: ``class_list`` is not a class list, or the labels do not fit the model's classes.
        ShardError: the shards are missing, compressed, truncated or damaged.
        RendererError: this machine would render other views.
    """
    check_renderers()
    network, card = _opened(config.model, config, job)
    if config.class_list is not None:
        classes = load_class_list(config.class_list)
        card = replace(card, class_name=classes.name, class_ids=classes.ids)
    normalize = Normalizer(card.mean, card.std, job.device, config.runtime.channels_last)
    scored = EvalConfig(shards=config.shards, views=config.views.over(card.eval_views), batch_size=config.batch_size)
    compiler = compiler_of(config.runtime, job)
    scorer = build_scorer(job, scored, config.runtime, normalize, card, compiler, views_field="views")
    say(job, f"{config.model}: scored in views of {scored.views}{_difference(scored.views, card)}")
    scores = scorer(network)
    say_device(compiler, network, resolve_precision(job.device, config.runtime.precision, trains=False))
    raw = raw_model_file(config.model)
    said = f"{config.model}: " if raw is None else f"{config.model}, the average of the weights: "
    say(job, said + _message(scores))
    if raw is not None:
        own = scorer(_opened(raw, config, job)[0])
        say(job, f"{raw}, the weights themselves: {_message(own)}")
        scores |= as_raw(own)
    return scores | {"class_names_compared": int(scorer.compares_names)}


def _opened(model: Path, config: EvaluateConfig, job: Job) -> tuple[nn.Module, ModelCard]:
    network, card = open_model(model)
    move_to_device(network, job.device, config.runtime.channels_last)
    return network, card


def _difference(views: EvalViewSpec, card: ModelCard) -> str:
    """What the model's file says of its views, where the recipe says otherwise."""
    if card.crop_mode is None:
        return " (the model's file names none)"
    return "" if str(views) == str(card.eval_views) else f" (the model's file: {card.eval_views})"


def _message(scores: dict[str, float]) -> str:
    by_head = ", ".join(
        f"{name.removeprefix('top1_').replace('mean_of_logits', 'mean of logits')} {value:.2f} %"
        for name, value in scores.items()
        if name.startswith("top1_")
    )
    left_out = f"{scores['left_out']:,.0f} left out"
    if scores["left_out"]:
        unlabelled, undecodable = scores["left_out_unlabelled"], scores["left_out_undecodable"]
        left_out += f" ({unlabelled:,.0f} without a label, {undecodable:,.0f} undecodable)"
    return (
        f"top-1 {scores['top1']:.2f} %{f' ({by_head})' if by_head else ''}, top-5 {scores['top5']:.2f} %, "
        f"mean per class {scores['mean_per_class']:.2f} % of {scores['samples']:,.0f} samples, {left_out}"
    )
