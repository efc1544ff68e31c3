#!/bin/bash
# Two CPU nodes with 8 ranks each; a job that runs out of time goes on by itself.
#
#   sbatch cpu_nodes.sh train.py
#
# The script's fit needs the callback keras.callbacks.BackupAndRestore("backup"), with a folder that
# all nodes see. Two minutes before the time is over, or when another job takes the nodes, Slurm
# sends SIGUSR1: all ranks stop after the same step, the state is saved, and the job is queued again.
# It goes on at that step, also with another number of ranks.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
##SBATCH --account=...
##SBATCH --partition=...

set -euo pipefail

# --- software: the MPI module with which mpi4py was installed, and the environment; see cpu_node.sh
source "$HOME/venv/bin/activate"

# End the job, with the stacks of all threads, if a rank waits longer than this for the others.
export MINITORCH_CIML_TIMEOUT=600
# The script needs no line about ranks; one that calls set_distribution itself may have it too.
export MINITORCH_CIML_DISTRIBUTE=1
# What ranks other than 0 write, a file for each.
export MINITORCH_CIML_LOGS="logs-$SLURM_JOB_ID"

mpirun -n "$SLURM_NTASKS" --map-by "slot:PE=$SLURM_CPUS_PER_TASK" python "$@" &
# With MPICH or Intel MPI:  mpirun -n "$SLURM_NTASKS" python "$@" &
# With srun, Open MPI:      srun --mpi=pmix --cpus-per-task="$SLURM_CPUS_PER_TASK" python "$@" &
# With srun, MPICH:         srun --mpi=pmi2 --cpus-per-task="$SLURM_CPUS_PER_TASK" python "$@" &
job=$!

# The launcher hands the signal on to the ranks. A trap ends `wait`, so it is called again.
trap 'kill -USR1 "$job"' USR1
status=0
wait "$job" || status=$?
while kill -0 "$job" 2>/dev/null; do
  status=0
  wait "$job" || status=$?
done

# 75: saved after SIGUSR1. 0 with a backup left: with Open MPI, the job of a node that died ends so;
# a training that comes to its end deletes its backup.
if [ "$status" = 75 ] || { [ "$status" = 0 ] && [ -e backup/training_metadata.json ]; }; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$status"
