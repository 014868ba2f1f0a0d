"""Training of recurrent models on labelled text, and their export to bundles."""
