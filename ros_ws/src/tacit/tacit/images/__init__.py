"""Pictures: colour and depth, encoded and decoded, resized together with the boxes in them; touch in colours.

Imports point down this list only: depth, gels, taxels > colour > encoded.
"""

from tacit.images.colour import (
    MAX_PICTURE_BYTES,
    MAX_PIXELS,
    MAX_SIDE,
    Image,
    ImageTransform,
    Placement,
    ResizeMode,
    as_rgb,
    check_rgb,
    decode_image,
    encode_jpeg,
    encode_png,
    load_image,
)
