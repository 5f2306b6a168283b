"""Real GGUF models against llama.cpp's tokenizer and transformers' reader: `make parity-real`."""
