"""Tiny CLIPs and SigLIPs with random weights, in folders as transformers and open_clip write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SIDE, WIDTH, LENGTH = 16, 12, 12  # pixels of an image, D of both towers' embeddings, tokens of a text
WORDS = ("<pad>", "<start>", "<end>", "a", "photo", "of", ".", "cat", "dog", "red", "circle", "the", "drawn", "picture")
_TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_VISION = _TEXT | {"image_size": SIDE, "patch_size": 8}


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, between a start and an end; a word that it does not know is a full stop."""
    known = {word: number for number, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(known, unk_token="."))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<start>", eos_token="<end>", model_max_length=LENGTH
    )


def transformers_folder(folder: Path, kind: str = "clip") -> Any:
    """Write a network and its tokenizer; returns the network."""
    text = _TEXT | {"vocab_size": len(WORDS), "max_position_embeddings": LENGTH}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        if kind == "clip":
            config = transformers.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=WIDTH)
            network: Any = transformers.CLIPModel(config)
        else:
            own = {"hidden_size": WIDTH}  # SigLIP has no projection
            text |= {"projection_size": WIDTH}
            siglip = transformers.SiglipConfig(text_config=text | own, vision_config=_VISION | own)
            network = transformers.SiglipModel(siglip)
            network.logit_bias.data.fill_(-7.5)
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return network.eval()


def open_clip_folder(folder: Path) -> Any:
    """Write a network of open_clip; returns it. Its tokenizer comes with the package."""
    config = {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": SIDE, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": LENGTH, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.26, 0.27]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network: Any = open_clip.CLIP(**{**config, "vision_cfg": config["vision_cfg"], "text_cfg": config["text_cfg"]})
    torch.save(network.state_dict(), folder / "open_clip_pytorch_model.bin")
    return network.eval()
