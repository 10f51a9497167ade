"""Pages that show episodes: drawing on images, SVG plots, self-contained HTML (no network).

Imports point down this list only:
cli > dataset_page > episode_page, progress_video, rrd > player >
draw, live, page, plot, proportions.
"""
