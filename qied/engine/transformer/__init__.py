"""The transformer: which blocks stay, what a block computes, and the modulation that a schedule fixes."""
