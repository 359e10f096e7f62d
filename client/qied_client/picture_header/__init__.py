"""Size and orientation of PNG, JPEG and WebP files from their headers alone, without decoding and without Pillow."""

from qied_client.picture_header.header import PictureFormat, PictureHeader, PictureLimits, read_header

__all__ = ["PictureFormat", "PictureHeader", "PictureLimits", "read_header"]
