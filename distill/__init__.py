"""Teacher-student distillation of monocular depth."""
