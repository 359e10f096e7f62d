"""The gateway: OpenAI's images API, a jobs API and a web page over one daemon; needs ``qied-client[web]``."""
