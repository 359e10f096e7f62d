"""From files to tensors: mapped, expanded or quantised, and built into models."""
