#!/usr/bin/env bash
# Training on machines that share OUT and reach each other by address. On each, in any order:
#   FIRST=10.0.0.1 ADDRESS=10.0.0.2 recipes/clusters/torchrun_train.sh
# Whatever dies, processes or a whole machine, is started again and joins the others; all go on from
# the last checkpoint. A machine is started by the same line; only FIRST must not go down.
# First: distill rehearse recipes.teacher:vitg --launch recipes/clusters/teacher_vitg_4x8.yaml
set -euo pipefail

# ---- edit; what the environment holds comes first -------------------------------------------------
RECIPE=${RECIPE:-recipes.teacher:vitg}
DATA=${DATA-data}
OUT=${OUT:-runs/teacher}              # on a file system that all machines share
SETTINGS=${SETTINGS:-}                # NAME=VALUE ..., quoted where a value has spaces
FIRST=${FIRST:-10.0.0.1}              # the machine where they meet
ADDRESS=${ADDRESS:-$(hostname -i)}    # of this machine, in the network between them
HOSTS=${HOSTS:-4}                     # 2:4 goes on with two as well; batch_size must split over them
PROCESSES=${PROCESSES:-8}             # GPUs of each
FSDP=${FSDP:-true}                    # weights in pieces on all GPUs; false: whole on each (DDP)
PYTHON=${PYTHON:-.venv/bin/python}
CACHE=${CACHE:-${TMPDIR:-/tmp}/distill-cache}        # of compiled kernels, on this machine's own disk
WAIT_FOR_HOSTS=${WAIT_FOR_HOSTS:-3600}               # seconds until a host that is gone must be back
export DISTILL_TIMEOUT=${DISTILL_TIMEOUT:-600}       # seconds until a silent process is given up;
# longer than an export, which the first process does alone
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120} # after SIGTERM, to save
# export NCCL_SOCKET_IFNAME=eth0 NCCL_IB_HCA=mlx5    # where the machines have several networks
# ---------------------------------------------------------------------------------------------------

export TORCHINDUCTOR_CACHE_DIR=$CACHE/inductor TRITON_CACHE_DIR=$CACHE/triton
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
export TORCH_NCCL_ASYNC_ERROR_HANDLING=1      # a collective that fails ends its process
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1   # or a host that comes back would not be met
if [ "$FSDP" = true ]; then
  export ACCELERATE_USE_FSDP=true FSDP_VERSION=2 FSDP_RESHARD_AFTER_FORWARD=true
  export FSDP_AUTO_WRAP_POLICY=TRANSFORMER_BASED_WRAP FSDP_TRANSFORMER_CLS_TO_WRAP=Dinov2Layer
  export FSDP_STATE_DICT_TYPE=FULL_STATE_DICT FSDP_CPU_RAM_EFFICIENT_LOADING=false
fi
holds=0
[ "$ADDRESS" != "$FIRST" ] || holds=1
words=$(xargs -n 1 printf '%s\n' <<<"$SETTINGS") # takes quotes as the shell does
mapfile -t settings <<<"$words"
exec "$PYTHON" -m torch.distributed.run \
  --nnodes "$HOSTS" --nproc-per-node "$PROCESSES" --max-restarts "${RESTARTS:-10}" --local-addr "$ADDRESS" \
  --rdzv-backend c10d --rdzv-endpoint "$FIRST:${PORT:-29500}" --rdzv-id "${RUN_ID:-${OUT##*/}}" \
  --rdzv-conf "is_host=$holds,join_timeout=$WAIT_FOR_HOSTS,last_call_timeout=30" \
  -m distill run "$RECIPE" ${DATA:+--data "$DATA"} --out "$OUT" --resume ${SETTINGS:+--set "${settings[@]}"}
