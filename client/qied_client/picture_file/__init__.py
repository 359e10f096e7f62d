"""What a picture file holds besides its pixels: how it was made, in several dialects, and marks of what AI made."""
