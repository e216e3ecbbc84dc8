"""Which weights of a run are exported, and where the files go."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.modelfile import MODEL, RAW_MODEL, raw_model_file, weights_file
from tinyvit_kd.models.timm_config import TIMM_CONFIG
from tinyvit_kd.runs.run_files import RECIPE
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.storage.copies import local_path, parts_of
from tinyvit_kd.storage.open import open_storage

TORCH_ENDINGS = (".pth", ".pt", ".bin", ".tar", ".ckpt")
ENDINGS = {"timm": "-timm", "onnx": ".onnx", "torch-export": ".pt2"}  # behind the name of the file of weights


def chosen_weights(model: Path, weights: str | None, recipe: dict[str, Any] | None) -> tuple[Path, str | None]:
    """The file to export, and whether its weights are "averaged" or "raw"; None where nothing says so.

    A run without an average has raw weights in its model file.

    Args:
        model: a run folder, or any other folder or file of weights.
        weights: what is asked for; None: what the run is scored by, its average where it has one.
        recipe: of the run; None if it is none, or its recipe cannot be read.

    Raises:
        ConfigError: the run has no average, or a file alone is asked for one or the other.
        CheckpointError: the raw weights are missing.
    """
    if not model.is_dir() or recipe is None:
        if weights is not None:
            raise ConfigError(
                "--weights chooses between the files of a run folder",
                where=str(model),
                found="a file" if model.is_file() else f"a folder without a {RECIPE}",
                fix="leave --weights out, and name the file that is meant",
            )
        return model, None
    raw, decay = raw_model_file(model), recipe.get("train", {}).get("ema_decay")
    if weights == "averaged" and decay is None:
        raise ConfigError(
            "this run has no average of its weights",
            where=str(model),
            found=f"train.ema_decay: null in its {RECIPE}",
            fix="leave --weights out",
        )
    if weights != "raw":
        return model, "averaged" if decay is not None else "raw"
    if decay is not None and raw is None:
        raise CheckpointError(
            "the raw weights of this run are missing",
            where=str(model),
            found=f"{MODEL}, which holds their average",
            expected=RAW_MODEL,
            fix="copy it from where the run was made, or leave --weights out",
        )
    return raw or model, "raw"


def default_output(model: str | None, file_format: str) -> str:
    """Where a file goes if nobody says: beside the weights, ``model-timm``, ``model.onnx`` or ``model.pt2``.

    Raises:
        ConfigError: the weights are on a hub.
    """
    if model is None:
        raise ConfigError(
            "there is no folder to put the exported network beside", where="--output", fix="give --output PATH"
        )
    path = local_path(model)
    if path is not None:
        weights = weights_file(path)
        return str(weights.with_name(f"{weights.stem}{ENDINGS[file_format]}"))
    above, name = parts_of(model)
    folder, stem = (
        (above, Path(name).stem) if Path(name).suffix in (".safetensors", *TORCH_ENDINGS) else (model, "model")
    )
    return f"{folder.rstrip('/')}/{stem}{ENDINGS[file_format]}"


@contextmanager
def written_to(output: str) -> Iterator[Path]:
    """A path on this machine for what is exported; what is there in the end is uploaded, if the output is a URL.

    Of a folder ``config.json`` comes last, without which nobody takes it for a model of timm's.

    Raises:
        OSError: the storage refuses.
    """
    path = local_path(output)
    if path is not None:
        yield path
        return
    above, name = parts_of(output)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        yield path
        storage = open_storage(above)
        files = sorted(path.iterdir()) if path.is_dir() else [path, *Path(folder).glob(f"{glob.escape(name)}.*")]
        for file in sorted(files, key=lambda file: (file.name == TIMM_CONFIG, file == path)):
            with saying(f"uploading {output}"):
                storage.upload(file, "/".join(file.relative_to(folder).parts))
