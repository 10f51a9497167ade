"""Pages that show episodes: drawing on images, SVG plots, self-contained HTML (no network).

Inside, imports point down: cli > episode_page, dataset_page > page > plot, draw.
"""
