"""Prototypes: centres of a teacher's embeddings, which stand for classes where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.head_file import Head

OF_PROTOTYPES = "prototypes"  # ``made_from`` of such heads
TEMPERATURE = 0.1  # as SwAV has it (arXiv 2006.09882, appendix A)
_DIGITS = 8  # of the head's hash, in its classes' ids
_FEW = 10_000_000  # pairs of an embedding and a prototype, up to which all are compared in each round of k-means


def prototype_head(
    embeddings: torch.Tensor, count: int, temperature: float, seed: int, *, centers: bool = True
) -> Head:
    """A head whose rows are the centres that k-means finds among normalised embeddings.

    Its logits are cosines over τ, so that their softmax says how near an image is to each prototype, as in SwAV (arXiv
    2006.09882, section 3.1). Many embeddings are clustered in small batches. The ids of its classes name the head by
    the first digits of its hash, since a prototype of another head is another class.

    Args:
        embeddings: float32 [N, D].
        count: C, of prototypes.
        temperature: τ.
        seed: of the first centres; the same embeddings and seed give the same head.
        centers: whether the mean of the embeddings is subtracted before they are normalised. Features behind a ReLU all
            point the same way, so that their cosines hardly differ; DeepCluster whitens its own, too (arXiv 1807.05520,
            section 3.3).

    Raises:
        ConfigError: there are fewer embeddings than prototypes, or scikit-learn is not installed.
    """
    center = embeddings.float().mean(dim=0) if centers else None
    points = F.normalize(embeddings.float() - (0 if center is None else center), dim=1).cpu().numpy()
    distinct = len(np.unique(points, axis=0))
    if distinct < count:
        raise ConfigError(
            "there are fewer embeddings than prototypes",
            where="--prototypes",
            found=f"{count:,} prototypes of {distinct:,} different embeddings of {len(points):,} images",
            fix="raise --samples, or lower --prototypes",
        )
    rows = F.normalize(torch.from_numpy(_k_means(points, count, seed)), dim=1)
    head = Head(rows, None, 1 / temperature, "both", OF_PROTOTYPES, center=center)
    names = tuple(f"prototype {number} of {head.hash[:_DIGITS]}" for number in range(count))
    return replace(head, class_ids=names)


def _k_means(points: npt.NDArray[np.float32], count: int, seed: int) -> npt.NDArray[np.float32]:
    try:
        from sklearn.cluster import KMeans, MiniBatchKMeans
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ConfigError(
            "prototypes need the package scikit-learn, which is not installed",
            found=str(error),
            fix="pip install 'tinyvit_kd[prototypes]'",
        ) from None
    kind = KMeans if len(points) * count <= _FEW else MiniBatchKMeans
    with threadpool_limits(limits=1):  # with more threads sums depend on how many there are
        found = kind(n_clusters=count, random_state=seed, n_init=1).fit(points)
    return np.ascontiguousarray(found.cluster_centers_, dtype=np.float32)
