#!/usr/bin/env bash
# A folder of images and a timm teacher, one machine: from nothing to a distilled student. Read top to bottom.
#   pipelines/laptop.sh IMAGES WORK [TEACHER]
# IMAGES holds one folder (or tar, or zip) a class; TEACHER is a timm name with pretrained weights.
set -euo pipefail
images=$1 work=$2 teacher=${3:-convnext_tiny.in12k}
here=$(cd "$(dirname "$0")/.." && pwd)

# 0  Pack the images into shards that can be read at random, and see that every image decodes.
tinyvit-kd shards build "$images" "$work/shards" --samples-per-shard 1000
tinyvit-kd shards check "$work/shards" || echo "going on: what cannot be decoded becomes a hole"

# 1  The teacher sees eight views of every image, once. Run again after an interruption, it makes what is missing.
tinyvit-kd dump-logits "$here/configs/laptop/dump.yaml" \
  --set shards.path="$work/shards" --set teacher.name="$teacher" --set store.path="$work/store"
tinyvit-kd store info "$work/store"

# 2  A TinyViT-5M learns from the store; the teacher is not loaded.
tinyvit-kd pretrain "$here/configs/laptop/pretrain.yaml" \
  --set shards.path="$work/shards" --set store.path="$work/store" --set output="$work/distilled"

# 3  It meets the labels, and is scored, on the images it was trained on: build a split of others and name it.
tinyvit-kd finetune "$here/configs/laptop/finetune.yaml" \
  --set shards.path="$work/shards" --set student.init_from="$work/distilled" --set output="$work/finetuned"
tinyvit-kd evaluate "$here/configs/laptop/evaluate.yaml" \
  --set shards.path="$work/shards" --set model="$work/finetuned"
