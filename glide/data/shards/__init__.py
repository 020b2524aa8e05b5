"""WebDataset shards: tar files read by index, in a resumable random order."""
