"""Public face of `tacit.geometry.footprint`: where a tactile sensor shows in an image."""

from tacit.geometry.footprint import (
    FACES,
    FRESH,
    IN_FRONT,
    INTERSECTS,
    Footprint,
    Footprints,
    box_corners,
    project_box,
    project_boxes,
)
