"""What data is, whether a recipe can run on it, and where a run loses its time."""
