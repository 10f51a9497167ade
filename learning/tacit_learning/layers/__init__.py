"""Layers: positions, the transformer of ACT, pooling inside boxes, vision backbones, prepared inputs.

Imports point down this list only: backbone > backbone_files, causal, inputs, pooling, positions, taxels,
text, transformer, tuning.
"""
