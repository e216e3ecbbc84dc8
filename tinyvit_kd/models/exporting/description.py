"""What an exported file says of itself, as texts by name: how it is fed, what it answers, and its classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.exporting.deployed import INPUT, INPUT_KINDS, OUTPUT, InputKind
from tinyvit_kd.models.modelfile import ModelCard, card_text, parse_card
from tinyvit_kd.runtime.foreign_errors import first_line_of

_FORMAT = "1"
_INPUTS = {
    "uint8": "uint8, RGB, levels 0 to 255; normalised inside",
    "normalized": "float32, RGB, (level / 255 - mean) / std",
}


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an exported file says of itself.

    Attributes:
        card: what the network is.
        input_kind: of its images, see ``DeployedNetwork``.
        class_names: a readable name of each class, where its classes are known.
        model_card: for people, in Markdown; empty where there is none.
    """

    card: ModelCard
    input_kind: InputKind
    class_names: tuple[str, ...] | None = None
    model_card: str = ""

    def as_texts(self) -> dict[str, str]:
        """Texts by name; lists are JSON. ``from_texts`` reads class_names, and what begins with ``tinyvit_kd``."""
        card, views = self.card, self.card.eval_views
        texts = {
            "input": f"{INPUT} [N, 3, {card.image_size}, {card.image_size}]: {_INPUTS[self.input_kind]}",
            "output": f"{OUTPUT} [N, {card.num_classes}]: float32; softmax gives the classes' probabilities",
            "image_size": str(card.image_size),
            "mean": json.dumps(card.mean),
            "std": json.dumps(card.std),
            "crop_mode": views.mode,
            "crop_pct": f"{views.crop_fraction:g}",
            "interpolation": views.interpolation,
            "num_classes": str(card.num_classes),
            "tinyvit_kd_format": _FORMAT,
            "tinyvit_kd_input": self.input_kind,
            "tinyvit_kd_card": card_text(card),
        }
        if card.class_ids is not None:
            texts["class_ids"] = json.dumps(card.class_ids)
        if self.class_names is not None:
            texts["class_names"] = json.dumps(self.class_names)
        if self.model_card:
            texts["model_card"] = self.model_card
        return texts

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], where: str) -> Description:
        """What a file says of itself.

        Raises:
            CheckpointError: it says nothing, something that makes no sense, or what a later version means.
        """
        if "tinyvit_kd_card" not in texts:
            raise CheckpointError(
                "the file does not say how images are fed to it",
                where=where,
                found=f"texts named {', '.join(sorted(texts))}" if texts else "no texts beside the network",
                expected="a file that tinyvit-kd export has written",
                fix="export the network again from its run folder",
            )
        try:
            names = json.loads(texts["class_names"]) if "class_names" in texts else None
            found = cls(
                card=parse_card(texts["tinyvit_kd_card"]),
                input_kind=_input_kind(texts.get("tinyvit_kd_input", ""), texts.get("tinyvit_kd_format", "")),
                class_names=None if names is None else tuple(map(str, names)),
                model_card=texts.get("model_card", ""),
            )
            found._require_consistent()
        except Exception as error:  # what a stranger's file says can be anything
            raise CheckpointError(
                "what the file says of its network makes no sense",
                where=where,
                found=first_line_of(error),
                fix="export the network again, with this version",
            ) from None
        return found

    def _require_consistent(self) -> None:
        for name, each in (("classes", self.card.class_ids), ("names", self.class_names)):
            if each is not None and len(each) != self.card.num_classes:
                raise ValueError(f"{len(each)} {name} of {self.card.num_classes}")


def _input_kind(kind: str, version: str) -> InputKind:
    if version != _FORMAT or kind not in INPUT_KINDS:
        raise ValueError(f"format {version!r} with an input of kind {kind!r}, of which this version knows nothing")
    return kind  # type: ignore[return-value]
