"""The identity of a view: the hash of its spec, the renderer's version and its libraries."""

from __future__ import annotations

import json

import xxhash
from PIL import __version__ as pillow_version
from PIL import features

from tinyvit_kd.config.views import ViewSpec

RENDERER_VERSION = 1
"""Part of every view spec's hash; raised whenever the same seed would give other bytes."""


_MIXING = {"mixup", "cutmix", "mix_prob", "mix_switch_prob"}


def view_spec_hash(spec: ViewSpec) -> str:
    """16 hexadecimal digits that name every field of the spec that has an effect, and the renderer's version."""
    # Settings of mixing mean nothing where nothing is mixed.
    unused = set() if spec.mixes else _MIXING
    fields = {"renderer_version": RENDERER_VERSION, "view_spec": spec.model_dump(mode="json", exclude=unused)}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return xxhash.xxh3_64_hexdigest(text.encode())


def renderer_versions() -> dict[str, str]:
    """Versions of all libraries that can change a view's bytes, for the manifest."""
    found = {
        "renderer": str(RENDERER_VERSION),
        "pillow": pillow_version,
        "libjpeg-turbo": features.version_feature("libjpeg_turbo") or features.version_codec("jpg"),
        "zlib": features.version_codec("zlib"),
        "zlib-ng": features.version_feature("zlib_ng"),
        "libwebp": features.version_module("webp"),
        "libtiff": features.version_codec("libtiff"),
    }
    return {name: version or "absent" for name, version in found.items()}
