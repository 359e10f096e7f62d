"""ComfyUI's HTTP and WebSocket API over one daemon, for programs that send their graphs to a ComfyUI."""
