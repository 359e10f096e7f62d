"""The checks: each a function of the facts alone that gives one verdict."""
