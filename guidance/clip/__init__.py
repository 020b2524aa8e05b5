"""The noisy CLIP: network, training, guidance, reranking, and OpenAI's checkpoints."""
