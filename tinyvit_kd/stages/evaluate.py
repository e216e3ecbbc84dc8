"""``evaluate``: accuracy of a model on labelled shards."""

from __future__ import annotations

from tinyvit_kd.config.recipes import EvalConfig, EvaluateConfig
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.models.known_network import OpenedNetwork
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import RAW_MODEL, raw_model_file
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.models.open_network import ITSELF
from tinyvit_kd.models.read_model import OWN_CARD
from tinyvit_kd.runs.opened_network import network_line, open_with_classes
from tinyvit_kd.runs.scoring import build_scorer
from tinyvit_kd.runtime.compiling import compiler_of
from tinyvit_kd.runtime.device import move_to_device, resolve_precision
from tinyvit_kd.runtime.device_report import say_device
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.training.evaluation_metrics import as_raw
from tinyvit_kd.views.selfcheck import check_renderers


def evaluate(config: EvaluateConfig, job: Job) -> dict[str, float]:
    """Score one model on labelled shards; of a run folder with an average of the weights, both.

    Returns:
        what ``Scorer`` returns: accuracies in percent, and the numbers of samples scored and left out; and
        ``class_names_compared``, 0 where class i of the labels was taken for class i of the model. Scores of the
        weights themselves, beside their average, begin with ``raw_``.

    Raises:
        CheckpointError, ConfigError: the model cannot be opened (``models.open_network``), ``class_list`` is not its
            class list, or the labels do not fit its classes.
        ShardError: the shards are missing, compressed, truncated or damaged.
        RendererError: this machine would render other views.
    """
    check_renderers()
    opened = _opened(config, job)
    network, card = opened.network, opened.card
    normalize = Normalizer(card.mean, card.std, job.device, config.runtime.channels_last)
    scored = EvalConfig(shards=config.shards, views=config.views.over(card.eval_views), batch_size=config.batch_size)
    compiler = compiler_of(config.runtime, job)
    scorer = build_scorer(job, scored, config.runtime, normalize, card, compiler, views_field="views")
    say(job, network_line(opened, config))
    say(job, f"{config.origin}: scored in views of {scored.views}{_difference(scored.views, opened)}")
    scores = scorer(network)
    say_device(compiler, network, resolve_precision(job.device, config.runtime.precision, trains=False))
    raw = None if config.model is None else raw_model_file(model_path(config.model, RAW_MODEL))
    said = f"{config.origin}: " if raw is None else f"{config.origin}, the average of the weights: "
    say(job, said + _message(scores))
    if raw is not None:
        own = scorer(_opened(config.model_copy(update={"model": str(raw)}), job).network)
        say(job, f"{raw}, the weights themselves: {_message(own)}")
        scores |= as_raw(own)
    return scores | {"class_names_compared": int(scorer.compares_names)}


def _opened(config: EvaluateConfig, job: Job) -> OpenedNetwork:
    opened = open_with_classes(config)
    move_to_device(opened.network, job.device, config.runtime.channels_last)
    return opened


def _difference(views: EvalViewSpec, opened: OpenedNetwork) -> str:
    """Who says that the network is scored in such views, and what is said where the recipe says otherwise."""
    card, own = opened.card, opened.known_from == OWN_CARD
    if own and card.crop_mode is None:
        return " (the model's file names none)"
    if card.crop_mode is None and opened.known_from == ITSELF:
        return " (nothing names any)"
    if str(views) == str(card.eval_views):
        return "" if own else f" (from {opened.known_from})"
    said_by = "the model's file" if own else opened.known_from
    return f" ({said_by}: {card.eval_views})"


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
