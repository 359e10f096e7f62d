"""Pure scheduling: events in, actions out; no clocks, no sockets, no tensors."""
