"""VACE-E: fine-tune Wan2.1-VACE on robot video, with task and embodiment control."""
