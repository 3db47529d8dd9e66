#!/usr/bin/env bash
# Training on 4 nodes of 8 GPUs under SLURM; what runs on each node is torchrun_train.sh.
#   distill rehearse recipes.teacher:vitg --launch recipes/clusters/teacher_vitg_4x8.yaml
#   mkdir -p logs && sbatch recipes/clusters/slurm_train.sh
# The job saves and queues itself again before its time is over and when it is preempted (exit code
# 143), and after a failure if it had got on since its start, unless a guard stopped it (exit code 3).
# SLURM requeues it when a node fails.
#SBATCH --job-name=teacher
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/%x-%j.log
set -euo pipefail

# ---- edit; what the environment holds comes first -------------------------------------------------
export RECIPE=${RECIPE:-recipes.teacher:vitg}
export DATA=${DATA-data}
export OUT=${OUT:-runs/teacher}                # on a file system that all nodes share
export SETTINGS=${SETTINGS:-}                  # NAME=VALUE ..., quoted where a value has spaces
export FSDP=${FSDP:-true}                      # weights in pieces; false: whole on each GPU
export PROCESSES=${PROCESSES:-8}               # GPUs of a node
export DISTILL_TIMEOUT=${DISTILL_TIMEOUT:-600} # seconds until a silent process is given up
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300} # to save; below USR1@
# module load cuda; export HF_HUB_OFFLINE=1      # where nodes have no internet: weights from the cache
# ---------------------------------------------------------------------------------------------------

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export FIRST=${nodes%%$'\n'*} HOSTS=$SLURM_JOB_NUM_NODES RUN_ID=$SLURM_JOB_ID PORT=$((20000 + SLURM_JOB_ID % 20000))
latest() { { find "$OUT/checkpoints" -maxdepth 1 -name 'step-*' 2>/dev/null || :; } | sort | tail -n 1; }
before=$(latest)

warned=
save() {
  warned=yes
  scancel --signal=TERM "$SLURM_JOB_ID" # to the steps, not to this script: srun itself would kill
}
trap save USR1 TERM
# shellcheck disable=SC2016 # each node's own name
srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} --kill-on-bad-exit=1 \
  --output="logs/%x-%j-%N.log" --open-mode=append \
  bash -c 'ADDRESS=$SLURMD_NODENAME exec recipes/clusters/torchrun_train.sh' &
step=$!
code=0
while kill -0 "$step" 2>/dev/null; do # a signal ends one wait
  code=0
  wait "$step" || code=$?
done
[ "$code" != 0 ] || exit 0
if [ ! "$warned" ]; then
  [ ! -e "$OUT/stopped.txt" ] || exit 3 # what a guard stopped it would stop again
  [ "$(latest)" != "$before" ] || exit "$code"
fi
scontrol requeue "$SLURM_JOB_ID"
exit 143
