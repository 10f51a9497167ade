"""Videos from a trained model: of a data set, or of arrays in Python.

Imports point down this list only: from_dataset, pipeline > solver > guidance, trained.
"""
