"""Text encoders as llama.cpp keeps them: two GGUF files with names of their own."""
