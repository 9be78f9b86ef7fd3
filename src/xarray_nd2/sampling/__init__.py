"""Many small parts of an image, for measuring cells and training models."""
