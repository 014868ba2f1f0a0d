"""Files scored straight through the engine, without a server."""
