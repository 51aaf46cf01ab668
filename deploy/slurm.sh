#!/usr/bin/env bash
# A study on Slurm: Ray's head on the first node, workers on the others, one driver.
#
#   sbatch --nodes=4 --gpus-per-node=1 deploy/slurm.sh studies/quickstart.yaml runs/first -o compute.num_gpus=0.25
#
# Run it again with the same folder after any kind of stop: it goes on. The folder and the package
# must be on a file system that all nodes see. Two such jobs may share a study whose
# compute.storage names a PostgreSQL server.
#SBATCH --job-name=bmapest
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:INT@120
set -euo pipefail

study=$1 out=$2
shift 2

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
# One token per job, readable by its owner alone, on the file system that the nodes share.
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/token-$SLURM_JOB_ID"
mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
(umask 077; python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
head_ip=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))
gpus=${SLURM_GPUS_ON_NODE:-0}

# Ray listens inside the cluster's network only; the dashboard stays on the head's loopback.
srun --nodes=1 --ntasks=1 -w "$head" ray start --head --node-ip-address="$head_ip" --port="$port" \
  --dashboard-host=127.0.0.1 --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block &
sleep 15
for node in "${nodes[@]:1}"; do
  srun --nodes=1 --ntasks=1 -w "$node" ray start --address="$head_ip:$port" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block &
done

resume=()
if [ -f "$out/study.json" ]; then resume=(--resume); fi
srun --overlap --nodes=1 --ntasks=1 -w "$head" bmapest run "$study" --runner ray \
  --address "$head_ip:$port" --out "$out" "${resume[@]}" "$@"
