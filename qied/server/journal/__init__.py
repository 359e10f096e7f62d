"""The daemon's promises and their outcomes, on disk before any client hears of them."""
