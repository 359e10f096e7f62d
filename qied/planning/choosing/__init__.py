"""The choice of a plan: candidates, what fits, what is refused and how it is explained."""
