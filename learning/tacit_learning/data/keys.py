"""Keys of a training batch. Legend: B batch, N cameras, S touch sensors (gels, then arrays), K chunk,
A action, M values of all arrays."""

STATE = "observation.state"  # (B, A) f4, canonical units
IMAGES = "observation.images"  # (B, N, H, W, 3) u1 RGB, policy input size
FEATURES = "features"  # (B, N, C, h, w) f4 of the cameras, where a run keeps those of a frozen backbone
TOUCH = "observation.touch"  # (B, S, h, w, 3) u1 RGB
TAXELS = "observation.taxels"  # (B, M) f4, flat, one array after the other, against no contact
BOXES = "observation.boxes"  # (B, N, S, 4) f4, edges in pixels of the policy image; NaN unknown
BOX_VALID = "observation.box_valid"  # (B, N, S) bool, usable for alignment
VISIBILITY = "observation.visibility"  # (B, N, S) f4 in 0..1
ACTION = "action"  # (B, K, A) f4, canonical units
ACTION_IS_PAD = "action_is_pad"  # (B, K) bool, True beyond the end of the episode
TICKS_TO_GRIP = "ticks_to_grip"  # (B, K) i8, until a gripper next begins to open or close; see `NEVER`
FUTURE_TOUCH = "future.touch"  # as TOUCH and TAXELS, some ticks later; where a run predicts them
FUTURE_TAXELS = "future.taxels"
FUTURE_VALID = "future.valid"  # (B,) bool, False where the episode ends before
EPISODE = "episode_index"  # (B,) i8
FRAME = "frame_index"  # (B,) i8
