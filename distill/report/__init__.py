"""One static HTML page per run."""
