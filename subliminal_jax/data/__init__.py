"""What goes into a model: prompts, corpora, filters, pairs and batches."""
