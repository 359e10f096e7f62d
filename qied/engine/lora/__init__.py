"""LoRAs: low-rank branches beside the linears of the blocks, and shares in the modulation tables of edits."""
