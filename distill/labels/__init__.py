"""The label store: float maps to bytes, bytes to shards."""
