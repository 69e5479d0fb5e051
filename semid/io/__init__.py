"""Reading and writing: embeddings in, saved objects out and in again."""
