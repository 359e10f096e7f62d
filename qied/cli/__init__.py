"""The ``qied`` command line: its commands, and how their output is shown."""
