"""A network as an ONNX file: written, compared under ONNX Runtime, and opened again."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.exporting.agreement import require_agreement
from tinyvit_kd.models.exporting.deployed import INPUT, OUTPUT, DeployedNetwork
from tinyvit_kd.models.exporting.description import Description
from tinyvit_kd.models.exporting.program import traced
from tinyvit_kd.runtime.foreign_errors import first_line_of

OPSET = 18  # the one in which torch writes its operations by itself
ONE_FILE = 2**31 - 2**20  # bytes: protobuf holds no more than 2 GiB, of which the graph itself takes some


def save_onnx(deployed: DeployedNetwork, description: Description, path: Path, one_file: int = ONE_FILE) -> float:
    """Write an ONNX file for any number of images, and compare it with the network under ONNX Runtime.

    Args:
        one_file: bytes of weights, beyond which they are in a second file, ``PATH.data``.

    Returns:
        the largest difference of two logits.

    Raises:
        ConfigError: the network cannot be exported, or a package is missing.
        CheckpointError: the file answers otherwise than the network.
    """
    require_onnx()
    program = _converted(deployed)
    for name, text in description.as_texts().items():
        program.model.metadata_props[name] = text
    weights = sum(tensor.numel() * tensor.element_size() for tensor in deployed.state_dict().values())
    with _quiet():
        program.save(path, external_data=weights > one_file)
    session = _session(path, torch.device("cpu"))
    return require_agreement(deployed, lambda images: _run(session, images), "the ONNX file")


def open_onnx(path: Path, device: torch.device) -> tuple[OnnxNetwork, Description]:
    """An ONNX file of ours under ONNX Runtime, and what it says of itself.

    Raises:
        ConfigError: a package is missing, or ONNX Runtime knows no such device here.
        CheckpointError: the file is missing, damaged, or none that ``export`` wrote.
    """
    require_onnx()
    if not path.is_file():
        raise CheckpointError("an ONNX file is missing", where=str(path), fix="export it, or correct the path")
    session = _session(path, device)
    description = Description.from_texts(session.get_modelmeta().custom_metadata_map, str(path))
    return OnnxNetwork(session, path), description


class OnnxNetwork:
    """An ONNX file's network: images [N, 3, S, S] to float32 logits [N, C], both on the CPU."""

    def __init__(self, session: Any, path: Path) -> None:
        self.session, self.path = session, path

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Run the network.

        Raises:
            CheckpointError: ONNX Runtime refuses it, as where the file does not take what it says of itself.
        """
        try:
            return _run(self.session, images.cpu())
        except Exception as error:  # of ONNX Runtime's own, which share no base
            raise CheckpointError(
                "ONNX Runtime cannot run the network",
                where=str(self.path),
                found=first_line_of(error),
                fix="export it again; with a smaller --batch-size it takes less memory",
            ) from error


def require_onnx() -> None:
    """Check that what ONNX files need is installed.

    Raises:
        ConfigError: it is not.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "a package that ONNX files need is not installed",
            found=first_line_of(error),
            fix="pip install 'tinyvit_kd[onnx]'",
        ) from None


def _converted(deployed: DeployedNetwork) -> Any:
    program = traced(deployed)
    try:
        with _quiet(), torch.no_grad():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: {0: "batch"}},
                verbose=False,
            )
    except Exception as error:
        raise ConfigError(
            "this network cannot be written as ONNX",
            where=type(deployed.network).__name__,
            found=f"torch.onnx says: {first_line_of(error)}",
            fix="it may have an operation that ONNX lacks; export it as torch-export or timm",
        ) from error
    assert converted is not None
    return converted


def _session(path: Path, device: torch.device) -> Any:
    import onnxruntime

    wanted = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    if wanted not in onnxruntime.get_available_providers():
        raise ConfigError(
            "this ONNX Runtime does not know the GPU",
            found=", ".join(onnxruntime.get_available_providers()),
            fix="install onnxruntime-gpu in place of onnxruntime, or set --device cpu",
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[wanted])
    except Exception as error:  # of ONNX Runtime's own, which share no base
        raise CheckpointError(
            "an ONNX file cannot be read",
            where=str(path),
            found=first_line_of(error),
            fix="export it again",
        ) from None


def _run(session: Any, images: torch.Tensor) -> torch.Tensor:
    (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
    return torch.from_numpy(logits)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings of its own code, and onnxscript's notes on what it folded."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
