"""Format, size and orientation of PNG, JPEG and WebP files, read from their headers without decoding."""

from qied_client.picture_header.header import PictureFormat, PictureHeader, PictureLimits, read_header

__all__ = ["PictureFormat", "PictureHeader", "PictureLimits", "read_header"]
