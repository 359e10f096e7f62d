"""One transformer block on the card: weights in one buffer, temporaries in one arena, launches as a graph."""
