"""VACE-E: fine-tune Wan2.1-VACE on robot video, with task and embodiment control.

Imports point down this list only: commands, plan_command, run > judge > plan_table, sampling >
assembly, objective > data, plan > club, model > arguments, config, config_model.
"""
