"""HDF5 episodes of ACT, ACT++, Mobile ALOHA and X-Trainer, both ways.

Imports point down this list only: reading, writing > layout.
"""
