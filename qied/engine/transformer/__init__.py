"""The transformer: which blocks stay on the card, what a block computes, and modulation by schedule."""
