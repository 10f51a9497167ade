"""Engine: the training loop, checkpoints, tracking and seeds, shared by all models."""
