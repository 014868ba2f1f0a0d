"""The schedule of the work: models in memory, queues, batches, limits. No HTTP."""
