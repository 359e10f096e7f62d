"""What an edit is made of, as plans count it: sizes, crops, views, tokens, LoRAs, decoded pictures, upscaling."""
