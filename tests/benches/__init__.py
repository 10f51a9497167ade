"""Measurements of this project, run by `tacit bench`; they live in a checkout and are not shipped."""
