"""The daemon as nodes see it: its connections, what it offers by name, and edits that nodes wait for."""
