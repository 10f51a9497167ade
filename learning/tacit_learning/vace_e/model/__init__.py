"""Wan2.1-VACE with streams of motion, objects, text and embodiment."""
