"""LoRAs as low-rank branches beside a block's linears, and their part in an edit's modulation table."""
