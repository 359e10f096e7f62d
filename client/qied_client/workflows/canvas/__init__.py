"""Workflows as ComfyUI's page saves them: nodes on a canvas, with widgets, subgraphs, reroutes and bypassed nodes."""
