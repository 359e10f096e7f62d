"""The numbers of the protocol; docs/protocol.md explains them. Sizes are bytes, times are milliseconds."""

from typing import Final

VERSION: Final = 2
MIN_VERSION: Final = 1

HEADER_BYTES: Final = 16 * 1024
CHUNK_BYTES: Final = 256 * 1024
FRAME_BYTES: Final = 1024 * 1024
"""``ZMQ_MAXMSGSIZE``: a larger frame ends the connection before it is stored."""
MESSAGE_FRAMES: Final = 3
"""Type, header and at most one body."""

CREDIT: Final = 4
"""Chunks that a sender may have under way without an acknowledgement."""
BLOB_BYTES: Final = 64 * 1024 * 1024
"""Bytes of a picture that a client uploads."""
RESULT_BYTES: Final = 256 * 1024 * 1024
"""Bytes of a result: ``PIXELS`` with opacity, as they are, fit it."""
PREVIEW_BYTES: Final = 128 * 1024

IMAGES: Final = 8
LORAS: Final = 8
PROMPT_BYTES: Final = 8_000
NEGATIVE_PROMPT_BYTES: Final = 3_000
STEPS: Final = 200
PASSES: Final = 3
"""Passes of one edit besides the first."""
FEATHER_PX: Final = 512
CROP_SCALE: Final = 8.0
"""Pixels of a pass for each pixel of its picture along a side, at most."""
PRIORITY: Final = 10
"""Highest priority of a job among its user's own; the lowest is its negative."""
CFG_SCALE: Final = 20.0
SIDE_PX: Final = 8_192
PIXELS: Final = 64_000_000
SIDE_MULTIPLE: Final = 16
SEED: Final = 2**63 - 1
ID_CHARS: Final = 64
NAME_CHARS: Final = 128
TEXT_CHARS: Final = 2_000
SCALARS: Final = 32
SCALAR_BYTES: Final = 256
"""Entries of a mapping of details or timings, and bytes of a text in one."""
TROUBLE_BYTES: Final = 400
TIMINGS: Final = 16
WARNINGS: Final = 6
WARNING_BYTES: Final = 300
"""Warnings of one job, and bytes of each."""
REASON_BYTES: Final = 1_000
SHORT_NAME_BYTES: Final = 48
SHORT_PROMPT_BYTES: Final = 160
THUMBNAIL_BYTES: Final = 32 * 1024
STATUS_ROWS: Final = 20
HISTORY_TURNS: Final = 64
PAGE_JOBS: Final = 14
PAGE_SESSIONS: Final = 24
PAGE_TURNS: Final = 24
PAGE_LORAS: Final = 32
PAGE_UPSCALERS: Final = 32
METRICS_BYTES: Final = 512 * 1024
PLANS_BYTES: Final = 256 * 1024
