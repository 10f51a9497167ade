"""Wan2.1-VACE with streams of motion, objects, text and embodiment.

Imports point down this list only: folder, frozen > loading, lora, vace_e > transformer > fusion >
pointing > encoders > balance, codec, conditioning, signals, waiting.
"""
