"""Pictures in and out: decoded to sRGB, encoded with metadata."""
