"""One transformer block on the card: weights in one buffer, temporaries in an arena, launches in a graph."""
