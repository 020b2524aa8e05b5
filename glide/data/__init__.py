"""Data sets: folders, shards and built-in scenes, their captions, masks and prefetching."""
