"""One reader per data set: disk to `Sample`, nothing else."""
