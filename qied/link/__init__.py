"""The link between the front and a worker: the launch order, the messages, and the port an engine implements."""
