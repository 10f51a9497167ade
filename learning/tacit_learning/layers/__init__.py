"""Layers: positions, the transformer of ACT, pooling inside boxes, vision backbones, prepared inputs.

None imports another. Imports point down this list only: backbone, causal, inputs, pooling, positions, text,
transformer.
"""
