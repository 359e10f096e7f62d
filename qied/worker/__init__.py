"""The step loop over an engine, and its link to the front."""
