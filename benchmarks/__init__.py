"""Timed figures and repeated experiments, with their results."""
