"""What a model file may ask for: a network of timm's by its own name, with plain arguments.

A file may come from anybody. timm also takes names and arguments that fetch from the hub or read other files; in a
recipe they are its author's business, in a file they are refused before timm is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.errors import CheckpointError

_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")  # an architecture and a tag; no scheme, no path
_CALL = re.compile(r"[^\W\d]\w*([.:][^\W\d]\w*)+")  # modules and names in them
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_.+-]*")
_SMALL = 100  # blocks: a number that takes neither time nor memory, whatever the file holds
_LARGEST_SIDE = 4096  # pixels of an image, which no tensor shows
# Arguments that say where weights come from or what is built around the network; none is one of the network itself.
_FETCHES = frozenset(
    {
        *("cache_dir", "checkpoint_path", "custom_load", "file", "hf_hub_id", "kwargs_filter", "state_dict", "url"),
        *("feature_cfg", "feature_cls", "features_only", "out_indices"),
    }
)


def fetches(argument: str) -> bool:
    """Whether an argument of ``timm.create_model`` says where weights come from, and not what the network is."""
    return argument in _FETCHES or argument.startswith(("pretrained", "checkpoint"))


def without_fetching(spec: ModelSpec) -> ModelSpec:
    """What a file says of a network that has its weights: no argument that would fetch others.

    Of a function's own arguments none is kept that a file may not have; recipes that open the file repeat those.
    """
    kept = {name: each for name, each in spec.kwargs.items() if not fetches(name)}
    if spec.call is not None:
        kept = {name: each for name, each in kept.items() if _is_plain(name, each)}
    return spec.model_copy(update={"kwargs": kept})


def require_plain(spec: ModelSpec, where: str) -> None:
    """Check what a file's card names.

    Raises:
        CheckpointError: it names more than one of timm's networks and plain arguments of it. A function may be named:
            it is imported only where a recipe names it, too (``known_network.require_trusted``).
    """
    if spec.call is not None and _CALL.fullmatch(spec.call) is None:
        raise _refused(where, f"call: {spec.call!r}")
    if spec.name is not None and _NAME.fullmatch(spec.name) is None:
        raise _refused(where, f"name: {spec.name!r}")
    for name, value in spec.kwargs.items():
        if fetches(name) or not _is_plain(name, value):
            raise _refused(where, f"kwargs: {name!r} = {value!r}")


def _is_plain(name: str, value: object) -> bool:
    return name.isidentifier() and (not isinstance(value, str) or _PLAIN_TEXT.fullmatch(value) is not None)


def require_fitting(spec: ModelSpec, num_classes: int, shapes: Sequence[Sequence[int]], where: str) -> None:
    """Check the sizes that a file's card names against the weights beside it, before a network of them is built.

    Each class and channel of a network has weights, and so does each block: a number of them that the file does not
    hold would only cost memory and time.

    Args:
        shapes: of the file's tensors.

    Raises:
        CheckpointError: a size is beyond what the weights can belong to.
    """
    widest = max((size for shape in shapes for size in shape), default=0)
    widths = {} if spec.tiny_vit is None else spec.tiny_vit.model_dump(exclude_none=True)
    if num_classes > widest:
        raise _too_large(where, f"num_classes: {num_classes:,}", f"at most {widest:,}, the longest side of a tensor")
    if spec.call is not None:  # what its arguments mean, only those know who trust it
        return
    for name, value in {**widths, **spec.kwargs}.items():
        if isinstance(value, str):
            continue
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if any(word in name for word in ("depth", "layers", "blocks")):
            if sum(map(abs, numbers)) > max(len(shapes), _SMALL):
                raise _too_large(where, f"{name}: {value}", f"no more blocks than there are tensors, {len(shapes):,}")
        elif max(map(abs, numbers), default=0) > max(widest, _LARGEST_SIDE):
            raise _too_large(where, f"{name}: {value}", f"at most {max(widest, _LARGEST_SIDE):,}, as in the tensors")


def _too_large(where: str, found: str, expected: str) -> CheckpointError:
    return CheckpointError(
        "a model file names a network that is larger than its weights, and nothing was built",
        where=where,
        found=found,
        expected=expected,
        fix="fetch or write the file again; do not use it unless you know who wrote it",
    )


def _refused(where: str, found: str) -> CheckpointError:
    return CheckpointError(
        "a model file asks for more than a network of timm's, and nothing of it was built or fetched",
        where=where,
        found=found if len(found) < 200 else f"{found[:200]}…",
        expected="the plain name of a network and numbers or words as its arguments, as our own stages write them",
        fix="do not use the file unless you know who wrote it; what it asks for may stand in a recipe (student.name, "
        "student.kwargs), whose weights a file without this card can give",
    )
