"""The requests of clients: answers are messages, refusals are typed errors."""
