"""The front: sockets, authentication, journal, blobs and the worker's supervision; no torch."""
