"""One loss per file: tensors in, one value per sample out."""
