"""The model card of an exported network, as the hub shows it: Markdown with facts for machines in front.

What is not known is not said. Of paths only the last part is told, since a card is made to be published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinyvit_kd.analysis.jobs.lineage import Stage, last_part
from tinyvit_kd.config.yaml_text import yaml_text
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.reports.words import is_number
from tinyvit_kd.runtime.wording import duration, printable

_SHOWN_CLASSES = 8
_FIGURES = {
    "top1": "top-1, %",
    "top5": "top-5, %",
    "mean_per_class": "mean per class, %",
    "top1_head": "top-1 of the class head alone, %",
    "top1_head_dist": "top-1 of the distillation head alone, %",
    "top1_mean_of_logits": "top-1 by the mean of both heads' logits, %",
    "samples": "images scored",
    "left_out": "images left out",
}
_WEIGHTS = {"averaged": "the running average of the trained weights", "raw": "the trained weights themselves"}


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """What a model card is about.

    Attributes:
        title: a name for people.
        network: timm's name, or the class of a network that was built from widths.
        parameters: number of them.
        two_heads: whether it has a distillation head, too.
        card: what the network is.
        class_names: readable names of its classes; None where they are not known.
        weights: "averaged" or "raw"; None where that is not known.
        weights_hash: of the exported tensors.
        stages: the runs that it goes back to, the last one being its own; empty if it is no run's.
        versions: of the libraries that exported it.
        license, datasets: as the hub names them, where whoever exports says so.
    """

    title: str
    network: str
    parameters: int
    two_heads: bool
    card: ModelCard
    class_names: Sequence[str] | None
    weights: str | None
    weights_hash: str
    stages: Sequence[Stage]
    versions: dict[str, str]
    license: str | None = None
    datasets: Sequence[str] = ()


def model_card(model: ExportedModel) -> str:
    """The whole card."""
    sections = [
        _front(model),
        f"# {_plain(model.title)}\n\n{_summary(model)}",
        f"## The network\n\n{_network(model)}",
        f"## Results\n\n{_results(model)}",
        *(_trained(stage, number, len(model.stages)) for number, stage in enumerate(model.stages, 1)),
        f"## How to use it\n\n{_use(model)}",
        f"## Versions\n\nExported with {_pairs(model.versions)}.",
    ]
    return "\n\n".join(sections) + "\n"


def _front(model: ExportedModel) -> str:
    distilled = any(stage.recipe.get("stage") == "pretrain" for stage in model.stages)
    facts: dict[str, Any] = {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", *(["knowledge-distillation"] if distilled else []), "tinyvit_kd"],
    }
    facts |= {"license": model.license} if model.license else {}
    facts |= {"datasets": list(model.datasets)} if model.datasets else {}
    return f"---\n{yaml_text(facts)}---"


def _summary(model: ExportedModel) -> str:
    card = model.card
    told = (
        f"An image classifier: {_plain(model.network)} with {model.parameters / 1e6:,.1f} M parameters, "
        f"{card.num_classes:,} classes and an input of {card.image_size} x {card.image_size} pixels."
    )
    teachers = [_said(each, "name") for stage in model.stages for each in stage.teachers if "name" in each]
    if teachers:
        told += (
            f" It was distilled from {' and '.join(dict.fromkeys(teachers))} with tinyvit_kd: from stored probabilities"
        )
        told += " of the very views that it was shown."
    elif model.stages:
        told += " It was trained with tinyvit_kd."
    return told


def _network(model: ExportedModel) -> str:
    card = model.card
    rows = {
        "Architecture": f"{_plain(model.network)}" + ("; class head and distillation head" if model.two_heads else ""),
        "Input": f"{card.image_size} x {card.image_size} pixels, RGB; mean {_list(card.mean)}, "
        f"standard deviation {_list(card.std)} of levels from 0 to 1",
        "View": f"{card.eval_views}" + ("" if card.crop_mode else " (the run was not scored: these are defaults)"),
        "Classes": _classes(model),
        "Weights": f"{_WEIGHTS.get(model.weights or '', 'as they were found')}"
        + (f", after {card.step:,} steps" if card.step else ""),
        "Hash of the weights": f"`{model.weights_hash}` (xxh3_128 over names and bytes)",
    }
    return _table(("", ""), rows.items())


def _classes(model: ExportedModel) -> str:
    count, names = f"{model.card.num_classes:,}", model.class_names
    if names is None:
        return f"{count}; their names are not known"
    shown = ", ".join(_plain(name) for name in names[:_SHOWN_CLASSES])
    more = ", …" if len(names) > _SHOWN_CLASSES else ""
    return f"{count} of the list {_plain(model.card.class_name or 'in config.json')}: {shown}{more}"


def _results(model: ExportedModel) -> str:
    own = model.stages[-1] if model.stages else None
    figures = {} if own is None else {name: own.figures[name] for name in _FIGURES if name in own.figures}
    if own is None or "top1" not in figures:
        return "Not known: the network was not scored while it was trained."
    scored_on = own.data.get("eval", {})
    text = f"On {_data(scored_on)}, at the end of training:\n\n" if scored_on else "At the end of training:\n\n"
    text += _table(("", ""), [(_FIGURES[name], _figure(name, value)) for name, value in figures.items()])
    if model.weights == "raw" and _ema_decay(own.recipe) is not None:
        text += "\n\nThese are figures of the average of the weights. The weights in here were not scored."
    if model.two_heads:
        text += "\n\nBoth heads answer together: with the mean of their softmax."
    return text


def _ema_decay(recipe: dict[str, Any]) -> Any:
    train = recipe.get("train")
    return train.get("ema_decay") if isinstance(train, dict) else None


def _trained(stage: Stage, number: int, stages: int) -> str:
    heading = "How it was trained" if stages == 1 else f"How it was trained, {number} of {stages}: {_plain(stage.name)}"
    rows = [("Stage", f"`{_plain(stage.recipe.get('stage', 'not known'))}`")]
    rows += [("Data" if use == "shards" else "Scored on", _data(each)) for use, each in stage.data.items()]
    rows += [("Store", _store(each)) for each in stage.stores]
    rows += [("Teacher", _teacher(each)) for each in stage.teachers]
    rows += [("First weights", _plain(stage.started_from) or "random")]
    if is_number(stage.surroundings.get("seconds")):
        rows += [("Took", f"{duration(stage.surroundings['seconds'])}, {_where(stage.surroundings)}")]
    if isinstance(stage.surroundings.get("versions"), dict):
        rows += [("Versions", _pairs(stage.surroundings["versions"]))]
    text = f"## {heading}\n\n{_table(('', ''), rows)}"
    if stage.recipe:
        recipe = yaml_text(_published(stage.recipe), default_flow_style=None).replace("```", "'''")
        told = "The recipe; of paths, the last part"
        text += f"\n\n<details>\n<summary>{told}</summary>\n\n```yaml\n{recipe}```\n\n</details>"
    return text


def _data(shards: dict[str, Any]) -> str:
    parts = [f"{_plain(shards['name'])}"]
    parts += [f"split {_plain(shards['split'])}"] if shards.get("split") else []
    parts += [f"{shards['samples']:,} images"] if isinstance(shards.get("samples"), int) else []
    parts += [f"fingerprint `{_plain(shards['hash'])}`"] if shards.get("hash") else []
    return ", ".join(parts)


def _store(store: dict[str, Any]) -> str:
    parts = [_plain(store["name"])]
    if "views" in store:
        parts += [f"{_said(store, 'views')} views per image", f"the {_said(store, 'topk')} likeliest classes of each"]
        parts += [f"encoding {_said(store, 'encoding')}", f"manifest `{_said(store, 'hash')}`"]
    return ", ".join(parts)


def _teacher(teacher: dict[str, Any]) -> str:
    return (
        f"{_said(teacher, 'name')} at {_said(teacher, 'image_size')} pixels, in {_said(teacher, 'precision')}, "
        f"weights `{_said(teacher, 'weights_hash')}`"
    )


def _said(facts: dict[str, Any], name: str) -> str:
    return _plain(facts.get(name, "not known"))


def _where(surroundings: dict[str, Any]) -> str:
    machine, processes = surroundings.get("machine"), surroundings.get("world_size")
    known = machine if isinstance(machine, dict) else {}
    gpus = known.get("gpus") if known.get("device") == "cuda" else None
    first = gpus[0] if isinstance(gpus, list) and gpus else None
    device = _plain(first.get("name", "GPU") if isinstance(first, dict) else known.get("cpu", "CPU"))
    return f"{processes} x {device}" if isinstance(processes, int) and processes > 1 else device


def _use(model: ExportedModel) -> str:
    text = (
        "```python\nimport timm\nimport torch\nfrom PIL import Image\n\n"
        'network = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or "hf-hub:OWNER/NAME"\n'
        "settings = timm.data.resolve_model_data_config(network)\n"
        "transform = timm.data.create_transform(**settings, is_training=False)\n"
        'image = transform(Image.open("image.jpg").convert("RGB")).unsqueeze(0)\n'
        "with torch.inference_mode():\n    probabilities = network(image).softmax(dim=1)\n```"
    )
    if model.two_heads:
        text += (
            "\n\ntimm answers with the mean of both heads' logits. The results above are those of the mean of both "
            "heads' softmax, which `tinyvit-kd predict FOLDER IMAGE` gives, and which ONNX files of this network hold."
        )
    return text


def _published(value: Any) -> Any:
    """A recipe without the paths and URLs of whoever made it."""
    if isinstance(value, dict):
        return {name: _published(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_published(each) for each in value]
    is_path = isinstance(value, str) and "/" in value and not value.startswith("hf-hub:")
    return last_part(value) if is_path else value


def _table(head: tuple[str, str], rows: Any) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)])


def _figure(name: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return _plain(value)
    return f"{value:.2f}" if name.startswith(("top", "mean")) else f"{value:,.0f}"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _pairs(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {_plain(version)}" for name, version in versions.items())


def _plain(text: Any) -> str:
    """A name that neither ends a cell of a table nor begins anything else in Markdown or HTML."""
    return printable(str(text)).replace("|", "¦").replace("<", "‹").replace("`", "'")
