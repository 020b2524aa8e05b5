"""The noisy classifier: network, training, guidance, and OpenAI's checkpoints."""
