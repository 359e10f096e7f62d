"""Who may connect: keys, authentication, and the files that hold secrets."""
