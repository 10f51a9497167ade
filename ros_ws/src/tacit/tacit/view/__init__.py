"""Pages that show episodes: drawing on images, SVG plots, self-contained HTML (no network).

Imports point down this list only:
cli > dataset_page, replay_page, rig_page > episode_page, progress_video, replay, rrd > player, server >
draw, live, page, plot, proportions.
"""
