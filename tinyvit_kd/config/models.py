"""Trained networks: where their weights come from, and what has to be known of them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Location, Section, unit
from tinyvit_kd.config.classes import TeacherClasses

_Positive = Annotated[float, Field(gt=0)]


class _CheckpointFile(Section):
    checkpoint: Location | None = Field(
        None,
        description="weights, at a path or URL: a run folder, a folder that timm or export wrote, a .safetensors file, "
        "or a torch file of any training code",
    )


class _ModelFile(Section):
    model: Location | None = Field(
        None,
        description="the model, at a path or URL: a run folder, a folder that timm or export wrote, a .safetensors "
        "file, or a torch file of any training code",
    )


class NetworkSource(Section):
    """A trained network: where its weights are, and what has to be known of it to use it.

    A subclass adds the field of local weights, and names it first among its alternatives. What is left out is as the
    file's card says or, where there is none, ``config.json`` beside the file, or timm.
    """

    name: str | None = Field(
        None,
        description="timm model name, or hf-hub:OWNER/NAME, which is fetched, or local-dir:FOLDER; null: the network "
        "that the file names, or config.json beside it",
    )
    call: str | None = Field(
        None,
        description="instead of name: a function or class, by its dotted name (package.module.function), that is "
        "called with kwargs and returns the network, with its weights or for those of the file. The network maps "
        "normalised images to logits, or to anything with logits; image_size, mean and std have to be given, unless "
        "the file says them",
    )
    torchvision: str | None = Field(
        None,
        description="instead of name: torchvision's name of an image classifier, for example resnet50, with "
        "torchvision's weights (pretrained: true) or those of the file",
    )
    transformers: Location | None = Field(
        None,
        description="instead of name and of a file: an image classifier of Hugging Face transformers, as a folder that "
        "save_pretrained wrote or as a name of the hub, which is fetched",
    )
    pretrained: bool = Field(
        False,
        description="whether to fetch timm's weights for name from the hub, or torchvision's for the network it names",
    )
    num_classes: int | None = Field(
        None,
        ge=2,
        description="C, the number of classes of the head; null: the model's own",
        json_schema_extra=unit("classes"),
    )
    class_list: str | None = Field(
        None,
        description="class list of the head: a text file with one id per line, or one of timm's lists by name; null: "
        "the one that the file names",
    )
    image_size: int | None = Field(
        None, ge=1, description="side of the input; null: the model's own", json_schema_extra=unit("pixels")
    )
    mean: tuple[float, float, float] | None = Field(
        None,
        description="mean of the input, for red, green and blue; null: the model's own",
        json_schema_extra=unit("brightness, 0 to 1"),
    )
    std: tuple[_Positive, _Positive, _Positive] | None = Field(
        None,
        description="standard deviation of the input, for red, green and blue; null: the model's own",
        json_schema_extra=unit("brightness, 0 to 1"),
    )
    kwargs: dict[str, bool | int | float | str | list[int]] = Field(
        default_factory=dict,
        description="further arguments of timm.create_model; they may fetch or read files. With call or torchvision: "
        "arguments of that function; torchvision takes weights, the name of those to fetch, if not its default",
    )

    @property
    def file_field(self) -> str:
        """Name of the field that holds the local weights."""
        return self.alternatives[0]

    @property
    def file(self) -> str | None:
        """Path or URL of the weights; None where they are fetched from timm's hub."""
        location: str | None = getattr(self, self.file_field)
        return location

    @property
    def origin(self) -> str:
        """Where the weights come from, for people."""
        if self.file is not None:
            return self.file
        if self.torchvision is not None:
            return f"torchvision's {self.torchvision}"
        return self.call or self.transformers or f"{self.name} of timm's hub"

    @property
    def _brings_weights(self) -> bool:
        """Whether a field of a subclass says where the weights are."""
        return False

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        field = self.file_field
        ways = [way for way in ("name", "call", "torchvision", "transformers") if getattr(self, way) is not None]
        if len(ways) > 1:
            raise ValueError(f"give {' or '.join(ways)}: each names a network")
        own = next((way for way in ("call", "transformers") if way in ways), None)
        if self.pretrained and own is not None:
            raise ValueError(f"leave pretrained out: {own} brings its own weights")
        if self.file is not None and self.transformers is not None:
            raise ValueError(f"give {field} or transformers, which brings its own weights, not both")
        if self.file is None and not self.pretrained and own is None and not self._brings_weights:
            raise ValueError(f"give {field} (a local file or folder) or pretrained: true (timm's weights from the hub)")
        if self.file is not None and self.pretrained:
            raise ValueError(f"give {field} or pretrained: true, not both")
        if self.pretrained and not ways:
            raise ValueError("pretrained: true needs name, a timm model name, or torchvision, one of torchvision's")
        if self.transformers is not None and self.kwargs:
            raise ValueError("leave kwargs out: a transformers folder says itself what its network is")
        return self


# Of several bases, the fields of the last one come first.
class TeacherConfig(TeacherClasses, NetworkSource, _CheckpointFile):
    """The teacher of stage one: a classifier of timm, torchvision, transformers or your own, with its weights."""

    alternatives: ClassVar[tuple[str, ...]] = ("checkpoint", "pretrained", "transformers")

    @property
    def origin(self) -> str:
        """Where the weights come from, for people."""
        return self.open_clip if self.file is None and self.open_clip is not None else super().origin

    @property
    def _brings_weights(self) -> bool:
        return self.open_clip is not None

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        if self.head is not None and self.num_classes is not None:
            raise ValueError("leave num_classes out: the number of classes is the head's")
        if self.open_clip is not None:
            others = [way for way in ("name", "call", "torchvision", "transformers") if getattr(self, way) is not None]
            if others or self.pretrained:
                other = others[0] if others else "name"
                raise ValueError(
                    f"give open_clip or {other}, not both; its weights are checkpoint's or those of MODEL:TAG"
                )
            if self.kwargs:
                raise ValueError("leave kwargs out: open_clip's name says what its network is")
        return self


class ModelSource(NetworkSource, _ModelFile):
    """A model to be scored or used: a classifier of timm, torchvision, transformers or your own, with its weights."""

    alternatives: ClassVar[tuple[str, ...]] = ("model", "pretrained", "transformers")
