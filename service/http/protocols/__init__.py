"""Other people's protocols: Hugging Face's and the Open Inference Protocol."""
