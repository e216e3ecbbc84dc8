"""ImageNet and Tiny-ImageNet in the layouts in which they are handed out, with a few images of a few bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from tests.data.source_trees import JPEG, write_tree
from tests.data.tars import write_tar

# ILSVRC's own numbers 1, 2 and 3, whose order is not that of the sorted WordNet ids.
ILSVRC = {1: "n02119789", 2: "n02100735", 3: "n02110185"}
TRUTH = [3, 1, 1, 2]  # of the validation images
VAL = [(f"ILSVRC2012_val_{number:08d}.JPEG", JPEG + bytes(number)) for number in range(1, 5)]


def validation_images(path: Path) -> Path:
    """The archive of the validation images: all at its top, in no order."""
    return write_tar(path, reversed(VAL))


def development_kit(folder: Path) -> Path:
    """The development kit as its archive unpacks."""
    from scipy.io import savemat

    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{each}\n" for each in TRUTH))
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
    synsets = np.array([(each, wordnet_id, "words") for each, wordnet_id in ILSVRC.items()], dtype=kinds)
    savemat(data / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    return data.parent


def tiny_imagenet(root: Path) -> Path:
    """Tiny-ImageNet, with two classes of its 200."""
    for wordnet_id in ("n02124075", "n01443537"):
        write_tree(root, [f"train/{wordnet_id}/images/{wordnet_id}_{number}.JPEG" for number in range(2)])
        write_tree(root, [f"train/{wordnet_id}/{wordnet_id}_boxes.txt"], b"0\t0\t62\t62")
    for number in range(3):
        (root / "val" / "images").mkdir(parents=True, exist_ok=True)
        (root / "val" / "images" / f"val_{number}.JPEG").write_bytes(JPEG + b"val" + bytes(number))
    (root / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn02124075\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t52\t55\t57\t59\nval_2.JPEG\tn02124075\t4\t0\t60\t55\n"
    )
    write_tree(root, ["test/images/test_0.JPEG"])
    (root / "wnids.txt").write_text("n02124075\nn01443537")
    (root / "words.txt").write_text("n02124075\tEgyptian cat\nn01443537\tgoldfish, Carassius auratus\n")
    return root


def zipped(folder: Path) -> Path:
    """A zip of a folder, beside it and with its name in it."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(folder.rglob("*")):
            archive.write(each, each.relative_to(folder.parent))
    return path
