"""Pictures in and out: header checks without decoding, decoding to sRGB, encoding with metadata."""
