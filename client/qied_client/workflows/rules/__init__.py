"""What each class of ComfyUI's nodes means for an edit: one function for each, by subject."""
