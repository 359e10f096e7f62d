"""The benchmark of a batch next to a person's previews; see README.md beside this folder."""
