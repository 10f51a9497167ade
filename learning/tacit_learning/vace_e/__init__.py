"""VACE-E: fine-tune Wan2.1-VACE on robot video, with task and embodiment control.

Imports point down this list only: commands, run > judge > sampling > assembly, objective, plan_table >
data, plan > club, model > config, config_model.
"""
