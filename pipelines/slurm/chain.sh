#!/usr/bin/env bash
# All three stages, each when the one before it is done. Run it on a login node, in the folder of this repository, with
# the environment active in which tinyvit-kd is: Slurm hands both on to the jobs.
#   pipelines/slurm/chain.sh [OPTIONS OF SBATCH …]
set -euo pipefail

dump=${DUMP:-configs/dump/clip_vit_large_patch14_22k.yaml}
pretrain=${PRETRAIN:-configs/pretrain/tiny_vit_21m_22k.yaml}
finetune=${FINETUNE:-configs/finetune/tiny_vit_21m_22kto1k.yaml}
parts=${PARTS:-16}  # of stage one, each on a node of its own

# submit NAME RECIPE [OPTIONS OF SBATCH …]: prints the job's number. A stage whose forerunner failed is cancelled.
submit() { sbatch --parsable --kill-on-invalid-dep=yes "${@:3}" "pipelines/slurm/$1.sbatch" "$2" | cut -d";" -f1; }

first=$(submit dump "$dump" --array="1-$parts" "$@")
second=$(submit pretrain "$pretrain" --dependency="afterok:$first" "$@")
third=$(submit finetune "$finetune" --dependency="afterok:$second" "$@")
echo "dump $first, pretrain $second, finetune $third"
