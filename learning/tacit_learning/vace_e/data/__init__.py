"""Folders of videos as checked, aligned, padded batches."""
