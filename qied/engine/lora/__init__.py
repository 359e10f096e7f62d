"""LoRAs as low-rank branches of a block's linears, and their part in an edit's modulation table."""
