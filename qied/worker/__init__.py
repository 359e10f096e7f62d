"""The worker process: the step loop over an engine, and its side of the link."""
