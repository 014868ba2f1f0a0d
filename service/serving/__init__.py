"""Scheduling: models in memory, queues, batches, limits. No HTTP."""
