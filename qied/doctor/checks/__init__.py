"""The doctor's checks, each a function from the facts to one finding."""
