"""The wire: limits, field checks, messages and the codec of protocol 1, as docs/protocol.md defines them."""
