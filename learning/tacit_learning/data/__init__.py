"""Training data: episodes as rows, windows of them as batches, augmentation, statistics."""
