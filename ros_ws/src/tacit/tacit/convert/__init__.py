"""Converters between our episodes and the data formats of other trainers."""
