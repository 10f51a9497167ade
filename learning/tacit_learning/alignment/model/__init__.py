"""Encoders, heads and the causal model that streams."""
