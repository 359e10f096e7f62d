"""Many edits as one: rows from folders, manifests or programs, names for their results, and a state that resumes."""
