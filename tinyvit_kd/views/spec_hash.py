"""The identity of views: the hash of their spec, and the versions of the renderer and its libraries."""

from __future__ import annotations

import json

import xxhash
from PIL import __version__ as pillow_version
from PIL import features

from tinyvit_kd.config.view_spec import ViewSpec

RENDERER_VERSION = 1
"""Part of every view spec's hash; increased whenever the same seed would give other bytes."""


_MIXING_FIELDS = {"mixup", "cutmix", "mix_prob", "mix_switch_prob"}


def view_spec_hash(spec: ViewSpec) -> str:
    """Hash, 16 hexadecimal digits, of the renderer's version and of every field of the spec that has an effect."""
    # Settings of mixing have no effect if nothing is mixed.
    unused = set() if spec.mixes else _MIXING_FIELDS
    fields = {"renderer_version": RENDERER_VERSION, "view_spec": spec.model_dump(mode="json", exclude=unused)}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return xxhash.xxh3_64_hexdigest(text.encode())


def renderer_versions() -> dict[str, str]:
    """Versions of all libraries that can change a view's bytes, for the manifest."""
    versions = {
        "renderer": str(RENDERER_VERSION),
        "pillow": pillow_version,
        "libjpeg-turbo": features.version_feature("libjpeg_turbo") or features.version_codec("jpg"),
        "zlib": features.version_codec("zlib"),
        "zlib-ng": features.version_feature("zlib_ng") if "zlib_ng" in features.features else None,
        "libwebp": features.version_module("webp"),
        "libtiff": features.version_codec("libtiff"),
    }
    return {name: version or "absent" for name, version in versions.items()}
