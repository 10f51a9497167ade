"""Layers: positions, the transformer of ACT, pooling inside boxes, vision backbones, prepared inputs."""
