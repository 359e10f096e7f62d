"""LoRAs: low-rank branches next to the linears of the blocks, and shares in the modulation tables of edits."""
