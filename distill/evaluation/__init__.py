"""Model and benchmark in, metric rows out."""
