"""timm opens an exported folder to the same logits, and timm's and the hub's own tools upload it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from timm.models import _hub

from tests.models.exporting.networks import CONVNET, DEIT, TINY_VIT, made
from tests.models.timm_folders import opened_by_timm
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.exporting.timm_files import label_descriptions, save_timm_folder
from tinyvit_kd.models.student import open_model

IDS, NAMES = tuple(f"n0000000{number}" for number in range(7)), ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")
CARD = "---\nlibrary_name: timm\ntags:\n- timm\n---\n\n# A card\n"
SPECS = {"TinyViT by widths": TINY_VIT, "DeiT with two heads": DEIT, "a convnet": CONVNET}


def exported(folder: Path, spec: dict[str, Any], size: int = 32) -> torch.nn.Module:
    """Write a folder; returns the network."""
    folder.mkdir(exist_ok=True)
    network, card = made(spec, size, class_name="animals", class_ids=IDS)
    assert save_timm_folder(folder, network, card, NAMES, CARD) == 0
    return network


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_timm_and_this_package_open_it_to_the_same_logits(spec: dict[str, Any], size: int, tmp_path: Path) -> None:
    network = exported(tmp_path, spec, size)
    images = torch.randn(2, 3, size, size)
    theirs = opened_by_timm(tmp_path).eval()
    own, card = open_model(tmp_path)
    with torch.inference_mode():
        assert torch.equal(theirs(images), network(images))
        assert torch.equal(own.eval()(images), network(images))
    assert card.class_ids == IDS
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}


def test_classes_have_their_names_as_timm_keeps_them(tmp_path: Path) -> None:
    exported(tmp_path, CONVNET)
    described: Any = opened_by_timm(tmp_path).pretrained_cfg
    assert described["label_names"] == list(IDS)
    assert described["label_descriptions"] == dict(zip(IDS, NAMES, strict=True)) == label_descriptions(tmp_path)


def test_timms_own_export_of_what_it_opened_says_the_same(tmp_path: Path) -> None:
    exported(tmp_path / "ours", TINY_VIT)
    network: Any = opened_by_timm(tmp_path / "ours")
    timm.models.save_for_hf(network, str(tmp_path / "theirs"), safe_serialization=True)
    ours, theirs = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "theirs"))
    assert {name: ours[name] for name in ("architecture", "num_classes", "num_features")} == {
        name: theirs[name] for name in ("architecture", "num_classes", "num_features")
    }
    shared = ours["pretrained_cfg"].keys() & theirs["pretrained_cfg"].keys()
    assert {"input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation", "first_conv"} <= shared
    assert [ours["pretrained_cfg"][name] for name in shared] == [theirs["pretrained_cfg"][name] for name in shared]


@pytest.mark.parametrize("text", [None, "", "[1]", '{"label_descriptions": ["a"]}', "{" * 10**5])
def test_a_description_without_names_has_none(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert label_descriptions(tmp_path) == {}


def test_a_network_that_timm_does_not_know_is_refused(tmp_path: Path) -> None:
    network, card = made(CONVNET, 32)
    card.architecture["name"] = "coffee"
    with pytest.raises(ConfigError, match="timm cannot build this network by name"):
        save_timm_folder(tmp_path, network, card, None, CARD)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as an upload uses; it keeps the names of what was committed."""

    committed: list[list[str]] = []  # noqa: RUF012  # a new one for each server

    def do_HEAD(self) -> None:
        """There is no file yet."""
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def do_POST(self) -> None:
        """Checks of the card, a new repository, how files are sent, and a commit of them."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/validate-yaml"):
            return self._reply({"errors": [], "warnings": []})
        if self.path.endswith("/repos/create"):
            return self._reply({"url": f"http://127.0.0.1:{self.server.server_port}/me/model"})  # type: ignore[attr-defined]
        if "/preupload/" in self.path:
            paths = [each["path"] for each in json.loads(body)["files"]]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            return self._reply({"files": [{"path": path, **plain} for path in paths]})
        entries = [json.loads(line) for line in body.splitlines()]
        self.committed.append(sorted(each["value"]["path"] for each in entries if each["key"] == "file"))
        where = f"http://127.0.0.1:{self.server.server_port}/me/model/commit/{'1' * 40}"  # type: ignore[attr-defined]
        return self._reply({"commitUrl": where, "commitOid": "1" * 40, "success": True})

    def do_GET(self) -> None:
        """Whatever is asked about the repository."""
        self._reply({})

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def _reply(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[tuple[str, list[list[str]]]]:
    """Address of a hub on this machine, and the names of the files of each commit to it."""
    committed: list[list[str]] = []
    handler = type("Hub", (Hub,), {"committed": committed})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", committed
        server.shutdown()


def test_timms_and_the_hubs_own_tools_upload_it(
    hub: tuple[str, list[list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is on this machine: nothing is sent elsewhere."""
    address, committed = hub
    exported(tmp_path, TINY_VIT)
    api = partial(huggingface_hub.HfApi, endpoint=address, token="hf_nobody")
    api().upload_folder(repo_id="me/model", folder_path=tmp_path)
    monkeypatch.setattr(_hub, "HfApi", lambda **_: api())
    timm.models.push_to_hf_hub(opened_by_timm(tmp_path), "me/model", safe_serialization=True)
    assert committed == [["README.md", "config.json", "model.safetensors"]] * 2
