"""tacit_learning: train and export touch-aware policies and progress estimators.

Imports torch; never rclpy, tacit_ros or tacit_sim. Inside, imports point down this list only:
annotate, cli > config_help, export_foreign > export > alignment > act_hsa, foreign_act, vace_e >
engine > data > layers, losses, options.
"""
