"""Which classes a teacher answers with: some of its own, or those of a head file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Location, Section


class TeacherClasses(Section):
    """Classes of a teacher other than its network's own."""

    restrict_to: str | None = Field(
        None,
        description="the classes of the store, of those that the teacher has, in their order: a class list, or a file "
        "of two columns (.csv, .tsv, .jsonl) that maps classes of the teacher to them, whose probabilities are added; "
        "null: all",
    )
    head: Location | None = Field(
        None,
        description="a head of your own classes on the network's embedding of an image, in place of its classifier, at "
        "a path or URL: a .safetensors file as tinyvit-kd head writes it, or a matrix [C, D] as .npy",
    )
    head_scale: float | None = Field(
        None,
        gt=0,
        description="factor of the head's logits, 1 / τ of a temperature τ; null: the one in its file, else 1",
    )
    head_normalize: Literal["none", "embeddings", "rows", "both"] | None = Field(
        None,
        description="what is brought to length 1 before they are multiplied: embeddings, rows of the head, or both; "
        "null: as the head's file says, else none",
    )
    embedding: Literal["auto", "pooled", "output"] = Field(
        "auto",
        description="which embedding a head is for: pooled features without the classifier, or the network's output, "
        "which of timm's CLIP is the projected embedding; auto: the one that has the head's width, pooled where both "
        "have, but for heads made of texts",
    )
    open_clip: str | None = Field(
        None,
        description="instead of name: the image tower of an open_clip network, with a head: MODEL (and checkpoint), "
        "MODEL:TAG of open_clip's weights, hf-hub:OWNER/NAME or local-dir:FOLDER",
    )

    @model_validator(mode="after")
    def _needs_head(self) -> Self:
        of_head = [name for name in ("head_scale", "head_normalize") if getattr(self, name) is not None]
        of_head += ["embedding"] if self.embedding != "auto" else []
        if of_head and self.head is None:
            raise ValueError(f"{' and '.join(of_head)} needs head, a file")
        if self.open_clip is not None and self.head is None:
            raise ValueError("open_clip needs head: its image tower alone knows no classes (tinyvit-kd head text)")
        return self
