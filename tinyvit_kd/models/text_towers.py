"""Heads of class names: what the text tower of a CLIP or SigLIP says of them, with open_clip or transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.head_file import OF_TEXTS, Head
from tinyvit_kd.models.open_clip_networks import create, text_embeddings
from tinyvit_kd.models.transformers_networks import transformers_library
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.wording import printable

_WHOLE_SENTENCE = 1 << 20  # a length that tokenizers without one of their own give


@dataclass(frozen=True)
class TextTower:
    """A text tower.

    Attributes:
        name: of the network, for people and for the head's file.
        library: that has it.
        embed: texts to embeddings, float32 [len(texts), D], not normalised.
        scale: factor of the cosines, exp(logit_scale).
        bias: of all logits; None: the network has none.
    """

    name: str
    library: str
    embed: Callable[[Sequence[str]], torch.Tensor]
    scale: float
    bias: float | None


def text_head(tower: TextTower, names: Sequence[str], templates: Sequence[str]) -> Head:
    """A head whose rows are the embeddings of class names in templates.

    Each row is the mean of the normalised embeddings of all templates, normalised again (CLIP, arXiv 2103.00020,
    section 3.1.4). Scale and bias are the tower's, so that the softmax of the logits is its own.

    Args:
        names: of the C classes, as they stand in a sentence.
        templates: sentences with ``{}`` in the place of the name.

    Raises:
        ConfigError: two classes have the same embedding.
    """
    rows: list[torch.Tensor] = []
    first: dict[bytes, int] = {}
    for number, name in enumerate(names):
        embeddings = tower.embed([template.replace("{}", name) for template in templates])
        rows.append(F.normalize(F.normalize(embeddings.float(), dim=1).mean(dim=0), dim=0))
        # The same tokens give the same bits.
        if (alike := first.setdefault(rows[-1].numpy().tobytes(), number)) != number:
            raise _alike([f"class {each} ({names[each]!r})" for each in (alike, number)], tower)
    bias = None if tower.bias is None else torch.full((len(names),), tower.bias)
    told = {"kind": OF_TEXTS, "library": tower.library, "model": tower.name, "templates": list(templates)}
    return Head(torch.stack(rows), bias, tower.scale, "both", made_from=told | {"names": list(names)})


def open_clip_tower(name: str, weights: str | None, where: str) -> TextTower:
    """The text tower of a network of open_clip.

    Args:
        name, weights, where: as of ``open_clip_networks.create``.

    Raises:
        ConfigError: as of ``open_clip_networks.create``.
    """
    network = create(name, weights, where)
    if not hasattr(network, "encode_text"):
        raise _no_texts(f"{where}: {name}", type(network).__name__)
    return TextTower(
        name,
        "open_clip",
        lambda texts: text_embeddings(network, name, texts, where),
        math.exp(float(network.logit_scale.detach())),
        _number(getattr(network, "logit_bias", None)),
    )


def transformers_tower(name: str, where: str) -> TextTower:
    """The text tower of a CLIP, SigLIP or their like, of transformers.

    Args:
        name: a folder that ``save_pretrained`` wrote, tokenizer included, or a name of the hub.
        where: the option that names it, for messages.

    Raises:
        ConfigError: transformers is not installed, or there is no such network, or it has no text tower.
    """
    library = transformers_library(where, "clip")
    try:
        network = library.AutoModel.from_pretrained(name, dtype=torch.float32, trust_remote_code=False).eval()
        tokenizer = library.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the hub, and a stranger's files, raise errors of many libraries
        raise ConfigError(
            "transformers cannot open the network and its tokenizer",
            where=f"{where}: {name}",
            found=printable(first_line_of(error)[:300]),
            expected="a folder that save_pretrained wrote, or a name of the hub",
            fix="correct the path or the name, or check the connection to the hub and its cache (HF_HOME)",
        ) from error
    if not hasattr(network, "get_text_features") or not hasattr(network, "logit_scale"):
        raise _no_texts(f"{where}: {name}", type(network).__name__)
    arguments = _padding(network, tokenizer)

    def embed(texts: Sequence[str]) -> torch.Tensor:
        tokens = tokenizer(list(texts), return_tensors="pt", truncation=True, **arguments)
        # SigLIP was trained without a mask of the padding.
        given = {"input_ids": tokens["input_ids"]} if arguments["padding"] == "max_length" else dict(tokens)
        given.pop("token_type_ids", None)
        with torch.no_grad():
            found = network.get_text_features(**given)
        embeddings: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
        return embeddings

    bias = _number(getattr(network, "logit_bias", None))
    return TextTower(name, "transformers", embed, math.exp(float(network.logit_scale.detach())), bias)


def _padding(network: Any, tokenizer: Any) -> dict[str, Any]:
    longest = getattr(network.config.text_config, "max_position_embeddings", None)
    length = min(each for each in (longest, tokenizer.model_max_length, _WHOLE_SENTENCE) if each is not None)
    is_siglip = network.config.model_type.startswith("siglip")
    return {"padding": "max_length" if is_siglip else True, "max_length": length}


def _number(bias: Any) -> float | None:
    return None if bias is None else float(bias.detach())


def _alike(two: Sequence[str], tower: TextTower) -> ConfigError:
    return ConfigError(
        "two classes have the same embedding, so that the head could not tell them apart",
        where=f"--classes, {tower.library}'s {tower.name}",
        found=" and ".join(two),
        expected="names that are different tokens: of words that the tokenizer knows, and before it cuts sentences off",
        fix="rename one of them or leave it out, shorten the templates, or take a network that knows the language",
    )


def _no_texts(where: str, found: str) -> ConfigError:
    return ConfigError(
        "the network has no text tower whose embeddings are compared with those of images",
        where=where,
        found=found,
        expected="a CLIP, a SigLIP or one of their kind",
        fix="name one that has",
    )
