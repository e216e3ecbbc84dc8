# What the batch scripts here share: run a stage on all nodes of the job, and requeue the job until it is done.
# shellcheck shell=bash
set -uo pipefail

gpus=${GPUS:-8}            # processes per node
restarts=${RESTARTS:-100}  # a job that cannot get on is given up after so many
# Seconds that torchrun gives a stage to write its checkpoint in, of the 120 that --signal gives the job.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=90

run_stage() {
  local step code=0 cancelled=
  # An element of an array goes by its own name: the number of one of them is that of the whole array, too.
  local job=$SLURM_JOB_ID
  if [[ -n ${SLURM_ARRAY_JOB_ID:-} ]]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
  # srun answers the highest code of its tasks, one per node: 1 (a bug) and 2 (a mistake) have to outrank 75. Slurm
  # signals every process of a step, this shell, too, which waits on.
  local task='trap : TERM; "$@"; code=$?; if ((code == 1 || code == 2)); then ((code += 100)); fi; exit $code'

  # Two minutes before the end Slurm signals this script. It tells the stage's processes, which write a checkpoint and
  # leave with 75. (SIGTERM to srun itself would kill them at once.)
  trap 'scancel --signal=TERM "$job"' USR1
  # Slurm itself signals this script where the job is cancelled or requeued: then there is nothing to requeue here.
  trap 'cancelled=yes' TERM

  # This script runs on the first node, where torchrun's machines meet; at a port that another job hardly has.
  srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" bash -c "$task" task \
    tinyvit-kd torchrun --nnodes "$SLURM_NNODES" --nproc_per_node "$gpus" --rdzv_backend c10d \
    --rdzv_endpoint "$(hostname):$((20000 + SLURM_JOB_ID % 10000))" --rdzv_id "$SLURM_JOB_ID" -m tinyvit_kd "$@" &
  step=$!
  wait "$step" || code=$?
  while kill -0 "$step" 2>/dev/null; do  # a signal to this script has ended the wait, but not the step
    wait "$step"
    code=$?
  done
  if ((code == 101 || code == 102)); then ((code -= 100)); fi

  # 75: the same command goes on. Above 128: a signal has killed the step.
  if [[ ($code -eq 75 || $code -gt 128) && -z $cancelled && ${SLURM_RESTART_COUNT:-0} -lt $restarts ]]; then
    scontrol requeue "$job"
  fi
  exit "$code"
}
