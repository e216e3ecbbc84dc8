"""Torch files of any origin as plain data: no code in them runs, and no class of theirs is imported."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.runtime.foreign_errors import is_other_pickle, refused_type


class _Value:
    """Stands for an object whose content is of no use here: it takes anything, and keeps and does nothing."""

    def __new__(cls, *_: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Mapping(_Value):
    """Stands for a kind of dict, whose items may be weights; it becomes the one kind that torch fills and extends."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


class _Sequence(_Value):
    """Stands for a kind of list."""

    def __new__(cls, *_: Any) -> Any:
        return []


# What training codes keep beside the weights: settings, paths, dates, counts. All of it is read as a stand-in; so a
# row here lets a file be read, and gives nothing in it the power to run.
_VALUES = {
    "argparse": ["Namespace"],
    "builtins": ["bool", "bytes", "float", "frozenset", "int", "object", "range", "slice", "str", "tuple"],
    "datetime": ["date", "datetime", "time", "timedelta", "timezone"],
    "decimal": ["Decimal"],
    "enum": ["Enum"],
    "numpy": ["bool", "bool_", "dtype", "float16", "float32", "float64", "int32", "int64", "ndarray"],
    "numpy._core.multiarray": ["_reconstruct", "scalar"],
    "numpy.core.multiarray": ["_reconstruct", "scalar"],
    "omegaconf.base": ["ContainerMetadata", "Metadata", "SCMode", "UnionNode"],
    "omegaconf.dictconfig": ["DictConfig"],
    "omegaconf.listconfig": ["ListConfig"],
    "omegaconf.nodes": [
        *("AnyNode", "BooleanNode", "BytesNode", "EnumNode", "FloatNode", "IntegerNode", "PathNode", "StringNode"),
        *("InterpolationResultNode", "ValueNode"),
    ],
    "pathlib": ["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"],
    "pathlib._local": ["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"],
    "torch.torch_version": ["TorchVersion"],
    "types": ["SimpleNamespace"],
    "typing": ["Any", "Dict", "List", "Optional", "Tuple", "Union"],
    "uuid": ["UUID"],
    **{
        f"{package}.callbacks.{module}": [name]
        for package in ("pytorch_lightning", "lightning.pytorch")
        for module, name in {
            "early_stopping": "EarlyStopping",
            "lr_monitor": "LearningRateMonitor",
            "model_checkpoint": "ModelCheckpoint",
        }.items()
    },
}
_MAPPINGS = {
    "addict.addict": ["Dict"],
    "builtins": ["dict"],
    "collections": ["defaultdict"],
    "easydict": ["EasyDict"],
    "lightning.fabric.utilities.data": ["AttributeDict"],
    "lightning_fabric.utilities.data": ["AttributeDict"],
    "ml_collections.config_dict.config_dict": ["ConfigDict", "FrozenConfigDict"],
    "mmcv.utils.config": ["ConfigDict"],
    "mmengine.config.config": ["ConfigDict"],
    "pytorch_lightning.utilities.parsing": ["AttributeDict"],
    "yacs.config": ["CfgNode"],
}
_SEQUENCES = {"builtins": ["list"], "collections": ["deque"]}
_KNOWN = "tensors, and settings as argparse, yacs, OmegaConf, Lightning, NumPy and Python's own types keep them"
_RESAVE = (
    "get the weights as a safetensors file; or, only if you trust where this file comes from, convert it once: load it "
    "with torch.load(FILE, weights_only=False), which runs whatever is in it, in a place with nothing to lose, and "
    'save the state dict alone (docs/MODELS.md, "A file that pickles more than tensors", has the few lines)'
)


def _stand_ins() -> list[Any]:
    return [
        # torch knows a class by the name of its module and its own.
        type(name, (kind,), {"__module__": module})
        for kind, table in ((_Value, _VALUES), (_Mapping, _MAPPINGS), (_Sequence, _SEQUENCES))
        for module, names in table.items()
        for name in names
    ]


STAND_INS = tuple(_stand_ins())


def _require_no_page(file: Path) -> None:
    with file.open("rb") as opened:
        start = opened.read(64)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):  # neither zip nor pickle begins so
        raise CheckpointError(
            "a file of weights is a web page",
            where=str(file),
            found=f"it begins with {start.decode('latin-1').split(chr(10))[0].strip()!r}",
            expected="a torch file or a safetensors file",
            fix="fetch it again: a page in its place often asks to log in, or says that the address is wrong",
        )


def read_torch_file(file: Path) -> Any:
    """What a torch file holds: tensors and plain data; known kinds of settings are emptied on the way.

    Raises:
        CheckpointError: it holds something of another kind; nothing of it was imported or run.
        Exception: whatever torch raises about a file that is damaged or none of its own.
    """
    _require_no_page(file)
    try:
        with torch.serialization.safe_globals(list(STAND_INS)):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        if is_other_pickle(error):
            raise CheckpointError(
                "a torch file was pickled in a way that cannot be read safely",
                where=str(file),
                found="a protocol of pickle other than the one that torch.save uses by itself",
                fix=_RESAVE,
            ) from None
        refused = refused_type(error)
        if refused is None:
            raise
        raise CheckpointError(
            "a torch file holds more than weights and settings",
            where=str(file),
            found=f"{refused}, of which nothing was run",
            expected=_KNOWN,
            fix=_RESAVE,
        ) from None
