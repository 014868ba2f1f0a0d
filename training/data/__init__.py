"""Labelled data, word vectors and vocabularies, from files to batches."""
