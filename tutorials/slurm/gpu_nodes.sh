#!/bin/bash
# Two GPU nodes with 8 GPUs each, one rank per GPU; for the rest, see cpu_nodes.sh.
#
#   sbatch gpu_nodes.sh train.py
#
# The script says where to compute: minitorch_ciml.set_device("cuda") before it makes the model. Each
# rank sees one GPU: that of its number among the ranks of its node. (If Slurm binds GPUs to tasks,
# with --gpu-bind, that stays.)
#SBATCH --job-name=train-gpu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
##SBATCH --account=...
##SBATCH --partition=...

set -euo pipefail

# --- software: pip install 'minitorch_ciml[mpi,cuda]' with the MPI module loaded
source "$HOME/venv/bin/activate"

export MINITORCH_CIML_TIMEOUT=600
export MINITORCH_CIML_DISTRIBUTE=1
export MINITORCH_CIML_LOGS="logs-$SLURM_JOB_ID"

# Which rank computes where.
mpirun -n "$SLURM_NTASKS" --map-by "slot:PE=$SLURM_CPUS_PER_TASK" minitorch-ciml info

mpirun -n "$SLURM_NTASKS" --map-by "slot:PE=$SLURM_CPUS_PER_TASK" python "$@" &
job=$!

trap 'kill -USR1 "$job"' USR1
status=0
wait "$job" || status=$?
while kill -0 "$job" 2>/dev/null; do
  status=0
  wait "$job" || status=$?
done

# See cpu_nodes.sh.
if [ "$status" = 75 ] || { [ "$status" = 0 ] && [ -e backup/training_metadata.json ]; }; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$status"
