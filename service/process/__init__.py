"""The server process: sockets, connections, signals, workers, TLS."""
