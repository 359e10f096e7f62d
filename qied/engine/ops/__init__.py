"""The operations of a transformer block: a plain torch version defines each, a fused kernel may replace it."""
