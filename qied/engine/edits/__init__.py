"""One edit from its spec to its picture: phases, steps, sweeps of several edits, masks and previews."""
