"""How a teacher looks at an image: once, flipped, at several scales."""
