"""The workers that fill the label store."""
