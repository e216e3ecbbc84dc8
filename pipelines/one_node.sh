#!/usr/bin/env bash
# ImageNet-22k to a TinyViT-21M at 512 pixels on one node of 8 GPUs. Read top to bottom; each line can be run again.
# Expects data/imagenet-22k-wds and data/imagenet-1k-wds in timm's webdataset layout, and the teacher's weights in
# checkpoints/clip_vit_large_patch14_22k.pth (the TinyViT model zoo has them).
set -euo pipefail
run() { torchrun --standalone --nproc_per_node "${GPUS:-8}" -m tinyvit_kd "$@"; }

# 0  Byte indexes, once.
tinyvit-kd shards index data/imagenet-22k-wds --split train
tinyvit-kd shards index data/imagenet-1k-wds --split train
tinyvit-kd shards index data/imagenet-1k-wds --split validation

# 1  The teacher, once: 14.2M images x 90 views. Every later student costs no teacher.
run dump-logits configs/dump/clip_vit_large_patch14_22k.yaml

# 2  The student, from the store.
run pretrain configs/pretrain/tiny_vit_21m_22k.yaml

# 3  ImageNet-1k at 224, 384 and 512 pixels.
run finetune configs/finetune/tiny_vit_21m_22kto1k.yaml
run finetune configs/finetune/tiny_vit_21m_384.yaml
run finetune configs/finetune/tiny_vit_21m_512.yaml
