"""A text read as it comes, over HTTP: the messages of a WebSocket, and server-sent events."""
