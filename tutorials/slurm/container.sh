#!/bin/bash
# The same in a container (Apptainer or Singularity): 2 nodes with 8 ranks each.
#
#   apptainer build minitorch_ciml.sif container.def      once, where you may
#   sbatch container.sh train.py
#
# The launcher is Slurm's, outside of the containers; each rank is a container of its own. The MPI
# inside must understand Slurm's PMI: Open MPI with PMIx, MPICH with PMI-2. Ranks of a node share
# memory through /dev/shm, which Apptainer takes from the host; other runtimes give a container only
# 64 MB, and then the gradients of larger models go through MPI instead (Docker: --ipc=host).
#SBATCH --job-name=train-container
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
##SBATCH --account=...
##SBATCH --partition=...

set -euo pipefail

export MINITORCH_CIML_TIMEOUT=600
export MINITORCH_CIML_DISTRIBUTE=1
export MINITORCH_CIML_LOGS="logs-$SLURM_JOB_ID"

# Slurm signals the steps of the job itself (no "B:" above). With GPUs: apptainer exec --nv.
status=0
srun --mpi=pmi2 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  apptainer exec minitorch_ciml.sif python "$@" || status=$?

# See cpu_nodes.sh.
if [ "$status" = 75 ] || { [ "$status" = 0 ] && [ -e backup/training_metadata.json ]; }; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$status"
