"""Procedural scenes with exact depth, in the disk layouts of the real sets."""
