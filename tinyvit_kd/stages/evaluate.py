"""``evaluate``: accuracy of a model file on labelled shards."""

from __future__ import annotations

from dataclasses import replace

from tinyvit_kd.config.recipes import EvalConfig, EvaluateConfig
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.data.class_list import load_class_list
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.models.student import open_model
from tinyvit_kd.runs.scoring import build_scorer
from tinyvit_kd.runtime.device import move_to_device
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.views.selfcheck import self_check


def evaluate(config: EvaluateConfig, job: Job) -> dict[str, float]:
    """Score one model file on labelled shards.

    Returns:
        what ``Scorer`` returns: accuracies in percent, and the numbers of samples scored and left out.

    Raises:
        CheckpointError: the model file is missing or damaged, or does not say which network it holds.
        ConfigError: ``class_list`` is not a class list, or the labels do not fit the model's classes.
        ShardError: the shards are missing, compressed, truncated or damaged.
        RendererError: this machine would render other views.
    """
    self_check()
    network, card = open_model(config.model)
    if config.class_list is not None:
        classes = load_class_list(config.class_list)
        card = replace(card, class_name=classes.name, class_ids=classes.ids)
    move_to_device(network, job.device, config.runtime.channels_last)
    if config.runtime.compile:
        network.compile()
    normalize = Normalizer(card.mean, card.std, job.device, config.runtime.channels_last)
    scored = EvalConfig(shards=config.shards, views=config.views.over(card.eval_views), batch_size=config.batch_size)
    scorer = build_scorer(job, scored, config.runtime, normalize, card, views_field="views")
    say(job, f"{config.model}: scored in views of {scored.views}{_difference(scored.views, card)}")
    scores = scorer(network)
    say(job, f"{config.model}: {_message(scores)}")
    return scores


def _difference(views: EvalViewSpec, card: ModelCard) -> str:
    """What the model's file says of its views, where the recipe says otherwise."""
    if card.crop_mode is None:
        return " (the model's file names none)"
    return "" if str(views) == str(card.eval_views) else f" (the model's file: {card.eval_views})"


def _message(scores: dict[str, float]) -> str:
    by_head = ", ".join(
        f"{name.removeprefix('top1_')} {value:.2f} %" for name, value in scores.items() if name.startswith("top1_")
    )
    return (
        f"top-1 {scores['top1']:.2f} %{f' ({by_head})' if by_head else ''}, top-5 {scores['top5']:.2f} %, "
        f"mean per class {scores['mean_per_class']:.2f} % of {scores['samples']:,.0f} samples, "
        f"{scores['left_out']:.0f} left out"
    )
