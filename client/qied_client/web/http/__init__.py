"""HTTP below the gateway's application: connections and bodies within their limits, events, and large answers."""
