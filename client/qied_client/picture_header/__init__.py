"""Format, size and orientation of pictures, read from their headers without decoding."""

from qied_client.picture_header.header import (
    FORMAT_NAMES,
    PictureFormat,
    PictureHeader,
    PictureLimits,
    read_header,
)

__all__ = ["FORMAT_NAMES", "PictureFormat", "PictureHeader", "PictureLimits", "read_header"]
