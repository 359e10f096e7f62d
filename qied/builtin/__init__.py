"""The built-in small model and the demo picture, as data."""
