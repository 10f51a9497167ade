"""The nets: features to embeddings to progress, over whole videos or frame by frame.

Imports point down this list only: streaming > model > encoder, protas, recipe_head > heads, motion,
normalisers, outcome, pictures, plain, task_text.
"""
