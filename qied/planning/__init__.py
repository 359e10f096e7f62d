"""Pure planning in integers: model profiles, memory estimates, quotes."""
