"""What a trained model is worth: its predictions, the metrics, and the baselines that it must beat.

Imports point down this list only: scores > baselines > metrics_pairs, recurrent, tuning > metrics_progress,
metrics_segments, events, verdicts, warps > predict.
"""
