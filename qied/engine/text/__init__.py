"""The text encoder: prompts to tokens, tokens and pictures to embeddings, layers streamed where they do not fit."""
