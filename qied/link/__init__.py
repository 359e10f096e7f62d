"""The encrypted link between the front and a worker: messages of its own, framing and transfers of protocol 1."""
