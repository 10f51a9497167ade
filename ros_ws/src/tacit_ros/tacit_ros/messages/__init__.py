"""The only place that builds and reads ROS messages, with exact Python types.

rclpy does not check fields by default, and a wrong type is corrupted in silence (`Float32(data=1)`
arrives as 0.0, `Bool(data=np.True_)` as False). So every builder here says float(), int(), bool() or
array.array, and the tests run under ROS_PYTHON_CHECK_FIELDS=1.

Imports point down this list only:
serialised > compressed, frames, named, pixels, readings > images, values > stamps.
"""

from tacit_ros.messages.compressed import compressed_header, read_compressed, read_compressed_depth
from tacit_ros.messages.frames import tf_message_class, transform
from tacit_ros.messages.images import ImageBuilder, Rgb, compressed_image, image
from tacit_ros.messages.named import build_named, message_class
from tacit_ros.messages.pixels import COLOUR_ENCODINGS, DEPTH_ENCODINGS, read_depth, read_image
from tacit_ros.messages.readings import READERS, read_joint_field, read_named, read_taxels
from tacit_ros.messages.serialised import reader_of
from tacit_ros.messages.stamps import (
    SECOND,
    MessageError,
    NotForUs,
    clock,
    duration,
    header,
    header_stamp_ns,
    ns_from_time,
    time_from_ns,
)
from tacit_ros.messages.values import (
    Status,
    Vector,
    boolean,
    camera_info,
    diagnostics,
    doubles,
    float32,
    float64,
    float_array,
    int32,
    joint_state,
    joint_trajectory,
    pose,
    region_of_interest,
    string,
    taxels,
)
