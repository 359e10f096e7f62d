"""Protocol 1: limits, field checks, messages and the codec; docs/protocol.md is the authority."""
