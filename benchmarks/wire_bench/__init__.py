"""The parts of ``wire.py``: who connects, uploads and edits, what is measured, and how it is shown."""
