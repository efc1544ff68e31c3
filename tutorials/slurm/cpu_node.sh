#!/bin/bash
# One CPU node, all of its cores: several ranks, each with several threads.
#
#   sbatch cpu_node.sh train.py
#
# Adapt: the account and partition, the number of cores (ntasks-per-node x cpus-per-task), and the
# lines under "software".
#SBATCH --job-name=train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.out
##SBATCH --account=...
##SBATCH --partition=...

set -euo pipefail

# --- software: the MPI module with which mpi4py was installed, and the environment
#   module load openmpi
#   python -m venv ~/venv && ~/venv/bin/pip install 'minitorch_ciml[mpi]'
source "$HOME/venv/bin/activate"

# End the job, with the stacks of all threads, if a rank waits longer than this for the others.
export MINITORCH_CIML_TIMEOUT=600
# The script needs no line about ranks; one that calls set_distribution itself may have it too.
export MINITORCH_CIML_DISTRIBUTE=1

# Each rank gets the cores that it asked for. Without the binding, Open MPI gives each rank one.
mpirun -n "$SLURM_NTASKS" --map-by "slot:PE=$SLURM_CPUS_PER_TASK" python "$@"
# With MPICH or Intel MPI:   mpirun -n "$SLURM_NTASKS" python "$@"
# With srun, Open MPI:       srun --mpi=pmix --cpus-per-task="$SLURM_CPUS_PER_TASK" python "$@"
# With srun, MPICH:          srun --mpi=pmi2 --cpus-per-task="$SLURM_CPUS_PER_TASK" python "$@"
