"""Text to numbers and back: bundles, tokenizers, engines, decoders, gates. No asyncio, no HTTP."""
