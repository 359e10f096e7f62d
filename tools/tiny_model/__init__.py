"""Data, training and measures of the built-in model: scenes of coloured shapes and edits with exact results."""
