"""What a picture file holds beside its pixels: how it was made, in several dialects, and marks of what AI made."""
