"""``evaluate``: accuracy of a model file on labelled shards."""

from __future__ import annotations

from dataclasses import replace

from tinyvit_kd.config.recipes import EvaluateConfig
from tinyvit_kd.data.class_list import load_class_list
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
        what ``Scorer`` returns: accuracies in percent, and the numbers of samples scored and left out; and
        ``class_names_compared``, 0 where class i of the labels was taken for class i of the model.

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
    scorer = build_scorer(job, config, config.runtime, normalize, card)
    scores = scorer(network)
    say(job, f"{config.model}: {_message(scores)}")
    return scores | {"class_names_compared": int(scorer.compares_names)}


def _message(scores: dict[str, float]) -> str:
    by_head = ", ".join(
        f"{name.removeprefix('top1_')} {value:.2f} %" for name, value in scores.items() if name.startswith("top1_")
    )
    left_out = f"{scores['left_out']:,.0f} left out"
    if scores["left_out"]:
        left_out += f" ({scores['unlabelled']:,.0f} without a label, {scores['undecodable']:,.0f} undecodable)"
    return (
        f"top-1 {scores['top1']:.2f} %{f' ({by_head})' if by_head else ''}, top-5 {scores['top5']:.2f} %, "
        f"mean per class {scores['mean_per_class']:.2f} % of {scores['samples']:,.0f} samples, {left_out}"
    )
