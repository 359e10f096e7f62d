"""The benchmark of the web door; see README.md beside this folder."""
