"""What a training step minimises: batch in, terms out."""
