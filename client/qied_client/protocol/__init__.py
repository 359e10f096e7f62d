"""The wire: limits, field checks, messages and the codec, as docs/protocol.md defines them."""
