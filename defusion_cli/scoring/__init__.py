"""Scores of restored photographs, with the protocol beside every number. pyiqa is imported nowhere else."""
