"""Annotated videos: read, encoded, cut into clips that are warped in time, and put into batches.

Imports point down this list only: batches, episode_videos > videos, warp > outcomes.
"""
