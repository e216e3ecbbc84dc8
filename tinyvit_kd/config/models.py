"""Which network, and where its weights come from."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tinyvit_kd.config.base import Location, Section, unit

_Positive = Annotated[float, Field(gt=0)]


class TinyVitWidths(Section):
    """An explicit TinyViT (arXiv 2207.10666, section 3.2): timm's ``TinyVit`` with these arguments."""

    embed_dims: tuple[int, int, int, int] = Field(
        description="width of each of the four stages", json_schema_extra=unit("channels")
    )
    depths: tuple[int, int, int, int] = Field(
        (2, 2, 6, 2), description="number of blocks in each stage", json_schema_extra=unit("blocks")
    )
    num_heads: tuple[int, int, int, int] | None = Field(
        None,
        description="number of attention heads in each stage; null: width / 32",
        json_schema_extra=unit("heads"),
    )
    window_sizes: tuple[int, int, int, int] = Field(
        (7, 7, 14, 7), description="side of the attention window in each stage", json_schema_extra=unit("tokens")
    )
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of the MLP divided by its input width")
    mbconv_expand_ratio: float = Field(4.0, gt=0, description="expansion ratio of the MBConv blocks")
    local_conv_size: int = Field(
        3, ge=1, description="kernel side of the local convolution", json_schema_extra=unit("tokens")
    )


class ModelSpec(Section):
    """A network by timm name or by explicit TinyViT widths."""

    alternatives: ClassVar[tuple[str, ...]] = ("name", "tiny_vit")

    name: str | None = Field(
        None,
        description="timm model name, for example tiny_vit_5m_224; or hf-hub:OWNER/NAME, whose description is fetched, "
        "or local-dir:FOLDER",
    )
    tiny_vit: TinyVitWidths | None = Field(None, description="explicit TinyViT widths")
    drop_path_rate: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="stochastic depth rate; null: the model's own",
        json_schema_extra=unit("probability"),
    )
    kwargs: dict[str, bool | int | float | str | list[int]] = Field(
        default_factory=dict,
        description="further arguments of timm.create_model, for example img_size; they may fetch or read files "
        "(pretrained, checkpoint_path)",
    )

    @property
    def given(self) -> list[str]:
        """Which of the ways to name a network the recipe uses."""
        return [field for field in self.alternatives if getattr(self, field) is not None]

    @model_validator(mode="after")
    def _one_of(self) -> ModelSpec:
        if len(self.given) != 1:
            raise ValueError(f"give exactly one of {' and '.join(self.alternatives)}")
        return self


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
    pretrained: bool = Field(False, description="whether to fetch timm's weights from the hub; needs name")
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
        description="further arguments of timm.create_model; they may fetch or read files",
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
        return self.file if self.file is not None else f"{self.name} of timm's hub"

    @property
    def _brings_weights(self) -> bool:
        """Whether a field of a subclass says where the weights are."""
        return False

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        field = self.file_field
        if self.file is None and not self.pretrained and not self._brings_weights:
            raise ValueError(f"give {field} (a local file or folder) or pretrained: true (timm's weights from the hub)")
        if self.file is not None and self.pretrained:
            raise ValueError(f"give {field} or pretrained: true, not both")
        if self.pretrained and self.name is None:
            raise ValueError("pretrained: true needs name, a timm model name")
        return self


# Of several bases, the fields of the last one come first.
class TeacherConfig(NetworkSource, _CheckpointFile):
    """The teacher of stage one: any timm model, with weights from a file or from the hub."""

    alternatives: ClassVar[tuple[str, ...]] = ("checkpoint", "pretrained")

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

    @property
    def origin(self) -> str:
        """Where the weights come from, for people."""
        return self.open_clip if self.file is None and self.open_clip is not None else super().origin

    @property
    def _brings_weights(self) -> bool:
        return self.open_clip is not None

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        of_head = [name for name in ("head_scale", "head_normalize") if getattr(self, name) is not None]
        of_head += ["embedding"] if self.embedding != "auto" else []
        if of_head and self.head is None:
            raise ValueError(f"{' and '.join(of_head)} needs head, a file")
        if self.head is not None and self.num_classes is not None:
            raise ValueError("leave num_classes out: the number of classes is the head's")
        if self.open_clip is not None:
            if self.name is not None or self.pretrained:
                raise ValueError("give open_clip or name, not both; its weights are checkpoint's or those of MODEL:TAG")
            if self.head is None:
                raise ValueError("open_clip needs head: its image tower alone knows no classes (tinyvit-kd head text)")
            if self.kwargs:
                raise ValueError("leave kwargs out: open_clip's name says what its network is")
        return self


class ModelSource(NetworkSource, _ModelFile):
    """A model to be scored or used: any timm model, with weights from a file or from the hub."""

    alternatives: ClassVar[tuple[str, ...]] = ("model", "pretrained")


class StudentConfig(ModelSpec):
    """The student of stages two and three: a timm name, TinyViT widths, or the network of the file to start from."""

    init_from: Location | None = Field(
        None,
        description="first weights, at a path or URL: a run folder, a folder that timm or export wrote, a model file, "
        "or a checkpoint of any training code; null: random weights. If name and tiny_vit are left out, it also names "
        "the network",
    )
    pretrained: bool = Field(
        False, description="whether to fetch timm's weights for name from the hub and start from them, not init_from"
    )
    class_list: str | None = Field(
        None, description="class list of the head of the first weights, if their file does not name one"
    )
    head: Literal["auto", "fresh"] = Field(
        "auto",
        description="auto: keep the head of the first weights, or remap it by WordNet id where both class lists are "
        "known; fresh: start from a zero head",
    )
    grad_checkpointing: bool = Field(
        False, description="whether to recompute activations in the backward pass, which saves memory and costs time"
    )

    @property
    def origin(self) -> str | None:
        """Where the first weights come from, for people; None if they are random."""
        if self.pretrained:
            return f"{self.name} of timm's hub"
        return self.init_from

    @model_validator(mode="after")
    def _one_of(self) -> StudentConfig:
        ways = " or ".join(self.alternatives)
        if len(self.given) > 1:
            raise ValueError(f"give {ways}, not both")
        if self.pretrained and self.init_from is not None:
            raise ValueError("give init_from or pretrained: true, not both")
        if self.pretrained and self.name is None:
            raise ValueError("pretrained: true needs name, a timm model name")
        if not self.given and self.init_from is None:
            raise ValueError(f"give {ways}, or init_from, which names its own architecture")
        return self

    @model_serializer(mode="wrap")
    def _in_effect(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A run is known by its student's fields; those begun before there was ``pretrained`` go on.
        fields: dict[str, Any] = handler(self)
        return fields if self.pretrained else {name: value for name, value in fields.items() if name != "pretrained"}
