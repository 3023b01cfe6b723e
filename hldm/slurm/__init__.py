"""Runs as jobs of SLURM: arrays that are planned, submitted and left alone, and what a job does beside its run.

A job's command is `python -P -m hldm worker DIRECTORY`: the run directory is the whole specification, nothing is
pickled. <study>/.jobs/<n>/ holds an array: its batch script, runs.txt with a run directory a line, and the logs.
"""
