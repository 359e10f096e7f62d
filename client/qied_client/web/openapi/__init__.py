"""The OpenAPI document of the gateway, made from its routes, its forms' fields and the messages that it passes on."""
