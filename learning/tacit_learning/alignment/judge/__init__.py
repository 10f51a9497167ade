"""How good an alignment or a progress estimate is, beside its baselines."""
