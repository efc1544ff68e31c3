#!/bin/bash
# Two nodes with 8 ranks each. A job that is interrupted goes on from its last epoch when it is
# submitted again, also with another number of ranks, if the script's fit has the callback
# keras.callbacks.BackupAndRestore("backup"), in a folder that all nodes see.
#
#   sbatch two_nodes.sh train.py
#
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --output=%x-%j.out
##SBATCH --account=...
##SBATCH --partition=...

set -euo pipefail

# --- software: see cpu_node.sh
source "$HOME/venv/bin/activate"

export MINITORCH_CIML_TIMEOUT=600
export MINITORCH_CIML_DISTRIBUTE=1

# With Open MPI, the job of a node that died can end with exit code 0: the marker tells whether the
# script came to its end.
rm -f DONE
mpirun -n "$SLURM_NTASKS" --map-by "slot:PE=$SLURM_CPUS_PER_TASK" python "$@" && touch DONE
# With srun and Open MPI:   srun --mpi=pmix --cpus-per-task="$SLURM_CPUS_PER_TASK" python "$@"
# With srun and MPICH:      srun --mpi=pmi2 --cpus-per-task="$SLURM_CPUS_PER_TASK" python "$@"
