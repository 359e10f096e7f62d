"""Format, size and orientation of pictures, read from their headers without decoding."""

from qied_client.picture_header.header import PictureFormat, PictureHeader, PictureLimits, read_header

__all__ = ["PictureFormat", "PictureHeader", "PictureLimits", "read_header"]
