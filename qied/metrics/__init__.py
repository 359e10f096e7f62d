"""The front's figures for Prometheus: what happened, counted as it happens, and what is the case at a scrape."""
