"""The benchmark of the web gateway; see README.md beside this folder."""
