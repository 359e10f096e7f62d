"""The connection's way over the network: addresses, encrypted sockets, and the loops and threads that drive them."""
