"""Streams over HTTP: the messages of a WebSocket, and server-sent events."""
