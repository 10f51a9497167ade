"""Touch sensors and grippers: gels found in pictures, and what they say of pose, size and opening.

Imports point down this list only:
outline > sensor_offset > click_page, touch_views > clicks, gripper_model.
"""
