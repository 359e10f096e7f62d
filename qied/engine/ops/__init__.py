"""The operations that a transformer block consists of; every one has a plain torch version that defines it."""
