"""Touch sensors and grippers: gels found in pictures, and what they say of pose, size and opening.

Imports point down this list only:
gel_search > outline, housing_markers > sensor_offset > click_page, touch_views >
clicks, gel_regions, gripper_model, pads.
"""
