"""``head text``: a head of class names, by the text tower of a CLIP or SigLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyvit_kd.data.labels.class_list import load_class_list
from tinyvit_kd.data.labels.class_list_text import plain_lines
from tinyvit_kd.data.labels.plain_text import decode_text
from tinyvit_kd.errors import ConfigError, said_by
from tinyvit_kd.models.head_file import OF_TEXTS, require_replaceable, save_head
from tinyvit_kd.models.text_towers import open_clip_tower, text_head, transformers_tower
from tinyvit_kd.runs.class_names import names_of
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.wording import first_few

TEMPLATE = "a photo of a {}."  # CLIP's (arXiv 2103.00020, section 3.1.4)
_SHOWN = 5  # names in the text


def text(
    output: Path,
    classes: str,
    templates: Sequence[str] = (),
    templates_file: Path | None = None,
    open_clip: str | None = None,
    checkpoint: str | None = None,
    transformers: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Write a head whose rows are the embeddings of class names.

    Args:
        output: a ``.safetensors`` file.
        classes: class list, by path or by timm's name of it; the names in it stand in the sentences, WordNet's for its
            ids.
        templates: sentences with ``{}`` in the place of the name; none: those of the file, else ``TEMPLATE``.
        templates_file: one sentence a line.
        open_clip: open_clip's name of the network, as ``teacher.open_clip`` has it.
        checkpoint: of open_clip's network, its weights.
        transformers: in place of open_clip: a folder that ``save_pretrained`` wrote, or a name of the hub.

    Returns:
        what was written, for people, and as plain data.

    Raises:
        ConfigError: an option is wrong, or the network cannot be opened.
        CheckpointError: ``output`` is another file than a head of texts.
    """
    require_replaceable(output, OF_TEXTS)
    known = load_class_list(classes, "--classes")
    sentences = _sentences(templates, templates_file)
    names = [name.replace("_", " ") for name in names_of(known, len(known.ids))]
    with saying("opening the text tower"):
        if open_clip is not None:
            tower = open_clip_tower(open_clip, checkpoint, "--open-clip")
        else:
            assert transformers is not None, "the command asks for one of the two"
            tower = transformers_tower(transformers, "--transformers")
    with saying("embedding class names"):
        made = text_head(tower, names, sentences)
    head = replace(made, class_name=known.name, class_ids=known.ids)
    save_head(output, head)
    bias = "" if tower.bias is None else f", bias {tower.bias:.4g}"
    shown = first_few(names, _SHOWN)
    told = (
        f"{output}: {len(names):,} classes ({shown}), {head.weight.shape[1]} wide, scale {head.scale:.4g}{bias}, "
        f"mean of {len(sentences)} template(s), by {tower.library}'s {tower.name}"
    )
    figures = {"classes": len(names), "width": head.weight.shape[1], "scale": head.scale, "bias": tower.bias}
    return told, {"head": str(output), **figures, "templates": sentences, "hash": head.hash}


def _sentences(given: Sequence[str], file: Path | None) -> list[str]:
    sentences = list(given)
    if file is not None:
        try:
            sentences += [line for line in plain_lines(decode_text(file.read_bytes())) if line]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("cannot read the templates", where=f"--templates: {file}", found=said_by(error)) from None
    without = [each for each in sentences if each.count("{}") != 1]
    if without or (file is not None and not sentences):
        raise ConfigError(
            "a template has no place for the class's name, or more than one",
            where="--template" if file is None else f"--template, --templates: {file}",
            found=", ".join(map(repr, without[:_SHOWN])) or "no line",
            expected=f"a sentence with {{}} in it, such as {TEMPLATE!r}",
        )
    return sentences or [TEMPLATE]
