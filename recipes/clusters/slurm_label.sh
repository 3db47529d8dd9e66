#!/usr/bin/env bash
# Labelling on 4 nodes of 8 GPUs under SLURM: each process takes the next shard that nobody has.
#   mkdir -p logs && sbatch recipes/clusters/slurm_label.sh
# The job queues itself again before its time is over and when it is preempted; it goes on with the
# shards that are missing, on any number of nodes. SLURM requeues it when a node fails. Exit code 1:
# images could not be labelled, quarantine.jsonl of the store names them.
#SBATCH --job-name=labels
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/%x-%j.log
set -euo pipefail

# ---- edit; what the environment holds comes first -------------------------------------------------
export RECIPE=${RECIPE:-recipes.labels:plain}
export DATA=${DATA-photos}
export OUT=${OUT:-runs/labels}                 # on a file system with locks that all nodes share
export SETTINGS=${SETTINGS-dtype=bfloat16}     # NAME=VALUE ..., quoted where a value has spaces
export PROCESSES=${PROCESSES:-8}               # GPUs of a node
export DISTILL_TIMEOUT=${DISTILL_TIMEOUT:-1800} # a process may be so much longer at its last shard
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120} # to commit; below USR1@
# module load cuda; export HF_HUB_OFFLINE=1      # where nodes have no internet: weights from the cache
# ---------------------------------------------------------------------------------------------------

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export FIRST=${nodes%%$'\n'*} HOSTS=$SLURM_JOB_NUM_NODES RUN_ID=$SLURM_JOB_ID PORT=$((20000 + SLURM_JOB_ID % 20000))
export FSDP=false RESTARTS=3

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

if [ "$code" != 0 ] && [ "$warned" ]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 143
fi
if [ "$code" = 0 ] && [ -e "$OUT/quarantine.jsonl" ]; then exit 1; fi
exit "$code"
