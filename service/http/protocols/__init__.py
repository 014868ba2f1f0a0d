"""Foreign protocols: Hugging Face's, the Open Inference Protocol and KServe's V1. To add one: CONTRIBUTING.md."""
